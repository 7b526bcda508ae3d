#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;

use super::*;
use crate::Kind;
use crate::store::{AccessKey, Stores};

/// A server that gives these answers, one a request, and knows what was asked. The last is given for ever.
struct Server {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn answering(answers: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut answers: VecDeque<(String, String)> =
            answers.iter().map(|(head, body)| ((*head).to_owned(), (*body).to_owned())).collect();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                heard.lock().unwrap().push(request(&mut stream));
                let (head, body) = if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() };
                let answer =
                    format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        Self { url, asked }
    }

    async fn bucket(&self) -> crate::store::Store {
        self.bucket_where(false).await
    }

    async fn bucket_where(&self, tag_scratch: bool) -> crate::store::Store {
        let endpoint = Some(self.url.clone());
        let key = AccessKey { id: "id".into(), secret: "secret".into(), session_token: None };
        let credentials = Some(Credentials::fixed(key));
        let settings = S3Settings { region: "us-east-1".into(), endpoint, credentials, tag_scratch };
        let stores = Stores::new(move || std::future::ready(Ok(settings.clone())));
        stores.open("s3://lab/foam").await.unwrap()
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

/// A request's head, its body read to the end.
fn request(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let lower = head.to_ascii_lowercase();
    if let Some((_, rest)) = lower.split_once("content-length: ") {
        let length: usize = rest.split("\r\n").next().unwrap().parse().unwrap();
        std::io::copy(&mut stream.take(length as u64), &mut std::io::sink()).unwrap();
    }
    head
}

fn refusal(code: &str, more: &str) -> String {
    format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message>{more}</Error>")
}

#[tokio::test]
async fn what_is_no_matter_of_one_object_is_told_at_once() {
    let cases = [
        ("404 Not Found", "NoSuchBucket", "", "there is no bucket s3://lab", "check its name"),
        ("301 Moved", "PermanentRedirect", "", "is in another region", "AWS_REGION"),
        (
            "400 Bad Request",
            "AuthorizationHeaderMalformed",
            "<Region>eu-west-1</Region>",
            "is in the region eu-west-1",
            "AWS_REGION=eu-west-1",
        ),
        ("403 Forbidden", "InvalidAccessKeyId", "", "doesn't know the access key", "AWS_PROFILE"),
        ("403 Forbidden", "SignatureDoesNotMatch", "", "secret access key", "AWS_SECRET_ACCESS_KEY"),
        ("400 Bad Request", "ExpiredToken", "", "have expired", "log in again"),
        ("403 Forbidden", "RequestTimeTooSkewed", "", "clock", "set it"),
        ("403 Forbidden", "InvalidObjectState", "", "Glacier", "restore"),
        ("403 Forbidden", "AccessDenied", "", "no permission to read s3://lab/foam/a", "s3:ListBucket"),
    ];
    for (status, code, more, said, hint) in cases {
        let server = Server::answering(&[(status, &refusal(code, more))]);
        let error = server.bucket().await.get("a").await.unwrap_err();
        assert_eq!(error.kind, Kind::Invalid, "{code}: {error}");
        assert!(error.message.contains(said), "{code}: {error}");
        assert!(error.hint.as_deref().unwrap_or_default().contains(hint), "{code}: {error:?}");
        assert_eq!(server.asked(), 1, "{code} is asked once");
    }
}

#[tokio::test]
async fn a_region_is_taken_from_a_header_too() {
    let server = Server::answering(&[("301 Moved\r\nx-amz-bucket-region: eu-central-1", "")]);
    let error = server.bucket().await.exists("a").await.unwrap_err();
    assert_eq!(error.hint.as_deref(), Some("set AWS_REGION=eu-central-1"));
}

#[tokio::test]
async fn a_missing_object_is_none_and_a_busy_store_is_asked_again() {
    let missing = refusal("NoSuchKey", "");
    let busy = refusal("SlowDown", "");
    let answers = [("503 Busy", busy.as_str()), ("500 Oh", ""), ("404 Not Found", missing.as_str())];
    let server = Server::answering(&answers);
    assert!(server.bucket().await.get("a").await.unwrap().is_none());
    assert_eq!(server.asked(), 3);
}

#[tokio::test]
async fn a_create_that_met_another_is_tried_again() {
    let conflict = refusal("ConditionalRequestConflict", "");
    let taken = refusal("PreconditionFailed", "");
    let server = Server::answering(&[("409 Conflict", &conflict), ("200 OK\r\nETag: \"1\"", "")]);
    assert!(server.bucket().await.put_new("a", "b".into()).await.unwrap());
    assert_eq!(server.asked(), 2);
    assert!(server.asked.lock().unwrap().iter().all(|head| head.to_ascii_lowercase().contains("if-none-match: *")));
    let server = Server::answering(&[("412 Precondition Failed", &taken)]);
    assert!(!server.bucket().await.put_new("a", "b".into()).await.unwrap());
}

#[tokio::test]
async fn scratch_is_tagged_where_that_is_wanted_and_nothing_else() {
    let scratch = crate::layout::scratch("stage", 3);
    for (wanted, key, tagged) in [
        (true, scratch.as_str(), true),
        (true, ".voxmill/plan.json", false),
        (true, "labels.zarr/0/c/0/0/0", false),
        (false, scratch.as_str(), false),
    ] {
        let server = Server::answering(&[("200 OK\r\nETag: \"1\"", "")]);
        let bucket = server.bucket_where(wanted).await;
        bucket.put(key, "b".into()).await.unwrap();
        bucket.put_new(key, "b".into()).await.unwrap();
        // An array of scratch is a store of its own.
        let (folder, name) = key.rsplit_once('/').unwrap();
        bucket.child(folder).unwrap().put(name, "b".into()).await.unwrap();
        let mut upload = bucket.upload(key).await.unwrap();
        upload.write(b"b").await.unwrap();
        upload.finish().await.unwrap();
        let asked = server.asked.lock().unwrap();
        assert_eq!(asked.len(), 4);
        for head in asked.iter() {
            let head = head.to_ascii_lowercase();
            assert_eq!(head.contains("x-amz-tagging: voxmill=scratch\r\n"), tagged, "{key}: {head}");
            assert_eq!(head.contains("x-amz-tagging"), tagged, "{key}: {head}");
        }
    }
}

#[tokio::test]
async fn what_the_credentials_say_is_what_the_user_hears() {
    let credentials = Some(Credentials::new(|| async { Err(Error::invalid("there are none").hint("log in")) }));
    let endpoint = Some("http://127.0.0.1:9".to_owned());
    let settings = S3Settings { region: "us-east-1".into(), endpoint, credentials, tag_scratch: false };
    let stores = Stores::new(move || std::future::ready(Ok(settings.clone())));
    let error = stores.open("s3://lab/foam").await.unwrap().get("a").await.unwrap_err();
    assert_eq!(error, Error::invalid("there are none").hint("log in"));
}

#[tokio::test]
async fn urls_that_name_no_bucket_are_refused() {
    let server = Server::answering(&[("200 OK", "")]);
    let endpoint = Some(server.url.clone());
    let settings = S3Settings { region: "us-east-1".into(), endpoint, credentials: None, tag_scratch: false };
    let stores = Stores::new(move || std::future::ready(Ok(settings.clone())));
    for url in ["s3://", "s3:///a", "s3://lab/../lab2", "s3://lab/a/./b", "s3://key:secret@lab/a", "s3://lab?x=1"] {
        let error = stores.open(url).await.unwrap_err();
        assert_eq!(error.kind, Kind::Invalid, "{url}");
        assert!(error.message.starts_with(url), "{url}: {error}");
    }
    for (url, shown) in [("s3://lab", "s3://lab"), ("S3://lab//a/b/", "s3://lab/a/b")] {
        let store = stores.open(url).await.unwrap();
        assert_eq!(store.url(), shown);
        assert_eq!(store.display("zarr.json"), format!("{shown}/zarr.json"));
    }
    assert_eq!(server.asked(), 0);
}

/// What was sent of an upload that can't be finished is taken back: buckets keep, and charge for, its parts.
#[tokio::test]
async fn an_upload_that_fails_half_way_is_aborted() {
    let begun = "<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>";
    let denied = refusal("AccessDenied", "");
    let server = Server::answering(&[("200 OK", begun), ("403 Forbidden", &denied)]);
    let mut upload = server.bucket().await.upload("large").await.unwrap();
    let part = vec![0; crate::store::write::PART_BYTES];
    upload.write(&part).await.unwrap();
    let failed = async {
        upload.write(b"more").await?;
        upload.finish().await
    };
    assert_eq!(failed.await.unwrap_err().kind, Kind::Invalid);
    let taken_back = |head: &String| head.starts_with("DELETE ") && head.contains("uploadId=u1");
    for _ in 0..500 {
        if server.asked.lock().unwrap().iter().any(taken_back) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?}", server.asked.lock().unwrap());
}
