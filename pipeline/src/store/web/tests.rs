#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Mutex;

use serde_json::json;
use voxel::{AnyVolume, Dtype, Extent, Region, Volume};

use super::*;
use crate::Kind;
use crate::array::{Array, ArraySpec, ChunkCache, Pick, write_whole};
use crate::store::{Store, Stores, Version};

/// What a server can't do, or does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    LacksRanges,
    LacksRangesFromTheEnd,
    RefusesHead,
    GivesNoTags,
}

/// What happens to the next requests for one path, in order; an answer of 200 is the usual one.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Status(u16),
    /// The line breaks in the middle of the body.
    Torn,
    /// A length is promised that nobody has.
    Endless,
}

/// A web server of a folder, on a port of its own, that knows what was asked.
struct Server {
    folder: tempfile::TempDir,
    url: String,
    shared: Arc<Shared>,
}

struct Shared {
    root: PathBuf,
    manners: Vec<Manner>,
    faults: Mutex<HashMap<String, Vec<Fault>>>,
    log: Mutex<Vec<String>>,
}

impl Server {
    fn new(manners: &[Manner]) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let shared = Arc::new(Shared {
            root: folder.path().to_owned(),
            manners: manners.to_vec(),
            faults: Mutex::default(),
            log: Mutex::default(),
        });
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || drop(shared.answer(connection)));
            }
        });
        Server { folder, url, shared }
    }

    /// The folder as a store on the disk, to put things there.
    fn disk(&self) -> Store {
        Store::open(self.folder.path().to_str().unwrap()).unwrap()
    }

    fn web(&self) -> Store {
        Store::open(&self.url).unwrap()
    }

    fn fault(&self, path: &str, faults: &[Fault]) {
        self.shared.faults.lock().unwrap().insert(path.to_owned(), faults.iter().rev().copied().collect());
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.log.lock().unwrap())
    }
}

impl Shared {
    fn answer(&self, mut connection: TcpStream) -> std::io::Result<()> {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if connection.read(&mut byte)? == 0 {
                return Ok(());
            }
            request.push(byte[0]);
        }
        let request = String::from_utf8_lossy(&request).into_owned();
        let mut words = request.split_whitespace();
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let header = |name: &str| {
            request.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let range = header("range");
        self.log.lock().unwrap().push(format!("{method} {path} {}", range.as_deref().unwrap_or("-")));
        let fault = self.faults.lock().unwrap().get_mut(path).and_then(Vec::pop);
        let mut status = match fault {
            Some(Fault::Status(status)) => status,
            _ => 200,
        };
        if method == "HEAD" && self.manners.contains(&Manner::RefusesHead) {
            status = 405;
        }
        let name = Path::from_url_path(path).unwrap();
        let content = std::fs::read(self.root.join(name.as_ref())).ok().filter(|_| status == 200);
        if content.is_none() && status == 200 {
            status = 404;
        }
        let content = content.unwrap_or_else(|| format!("<h1>{status}</h1>\nsorry").into_bytes());
        let cut = range.filter(|_| status == 200).and_then(|range| self.cut(&range, content.len()));
        let (status, extra, body) = match cut {
            Some(Ok((start, end))) => {
                let length = format!("Content-Range: bytes {start}-{}/{}\r\n", end - 1, content.len());
                (206, length, &content[start..end])
            }
            Some(Err(())) => (416, format!("Content-Range: bytes */{}\r\n", content.len()), &[][..]),
            None => (status, String::new(), &content[..]),
        };
        let tag = match self.manners.contains(&Manner::GivesNoTags) {
            false => format!("ETag: \"{}\"\r\n", content.iter().fold(7u64, |h, b| h.wrapping_mul(31) + u64::from(*b))),
            true => "Last-Modified: Mon, 01 Jan 2024 10:00:00 GMT\r\n".to_owned(),
        };
        let length = if matches!(fault, Some(Fault::Endless)) { 1 << 60 } else { body.len() };
        write!(connection, "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n{tag}{extra}\r\n")?;
        if method != "HEAD" {
            let sent = if matches!(fault, Some(Fault::Torn)) { body.len() / 2 } else { body.len() };
            connection.write_all(&body[..sent])?;
        }
        Ok(())
    }

    /// The bytes that a range header asks for; an error when there are none; none when ranges are not known.
    fn cut(&self, range: &str, len: usize) -> Option<Result<(usize, usize), ()>> {
        let (start, end) = range.strip_prefix("bytes=")?.split_once('-')?;
        if self.manners.contains(&Manner::LacksRanges) {
            return None;
        }
        if start.is_empty() {
            let n: usize = end.parse().ok()?;
            return match self.manners.contains(&Manner::LacksRangesFromTheEnd) {
                true => None,
                false if len == 0 => Some(Err(())),
                false => Some(Ok((len.saturating_sub(n), len))),
            };
        }
        let (start, end): (usize, usize) = (start.parse().ok()?, end.parse().ok()?);
        Some(if start >= len { Err(()) } else { Ok((start, len.min(end + 1))) })
    }
}

#[tokio::test]
async fn objects_are_read_whole_and_in_ranges_whatever_the_server_can_do() {
    let all: [&[Manner]; 6] = [
        &[],
        &[Manner::LacksRanges],
        &[Manner::LacksRangesFromTheEnd],
        &[Manner::RefusesHead],
        &[Manner::GivesNoTags],
        &[Manner::LacksRanges, Manner::GivesNoTags],
    ];
    for manners in all {
        let server = Server::new(manners);
        server.disk().put("a b/50%/c", Bytes::from_static(b"0123456789")).await.unwrap();
        let store = server.web().child("a b").unwrap();
        let whole = store.get("50%/c").await.unwrap().unwrap();
        assert_eq!((&whole.bytes[..], whole.size), (&b"0123456789"[..], 10), "{manners:?}");
        assert_eq!(matches!(whole.version, Version::ETag { .. }), !manners.contains(&Manner::GivesNoTags));
        for (range, seen) in [(2..5, &b"234"[..]), (8..50, b"89"), (0..1, b"0")] {
            let read = store.get_range("50%/c", range.clone()).await.unwrap().unwrap();
            assert_eq!((&read.bytes[..], read.size), (seen, 10), "{manners:?} {range:?}");
            assert_eq!(read.version, whole.version);
        }
        for (n, seen) in [(3, &b"789"[..]), (10, b"0123456789"), (30, b"0123456789")] {
            let read = store.get_suffix("50%/c", n).await;
            if manners.contains(&Manner::RefusesHead) && n == 30 {
                continue;
            }
            assert_eq!(&read.unwrap().unwrap().bytes[..], seen, "{manners:?} {n}");
        }
        let (parts, version) = store.get_ranges("50%/c", &[7..9, 0..2, 9..12]).await.unwrap().unwrap();
        assert_eq!((parts, version), (vec![Bytes::from("78"), Bytes::from("01"), Bytes::from("9")], whole.version));
        for missing in ["50%/d", "d"] {
            assert!(store.get(missing).await.unwrap().is_none());
            assert!(store.get_range(missing, 0..4).await.unwrap().is_none());
            assert!(store.get_suffix(missing, 4).await.unwrap().is_none());
        }
        assert!(server.asked().iter().all(|line| line.starts_with("GET /a%20b/") || line.starts_with("HEAD /a%20b/")));
    }
}

#[tokio::test]
async fn empty_objects_and_ranges_beyond_the_end_are_empty() {
    let server = Server::new(&[]);
    server.disk().put("empty", Bytes::new()).await.unwrap();
    server.disk().put("ten", Bytes::from_static(b"0123456789")).await.unwrap();
    let store = server.web();
    assert_eq!(store.get("empty").await.unwrap().unwrap().bytes.len(), 0);
    assert_eq!(store.get_range("empty", 0..4).await.unwrap().unwrap().bytes.len(), 0);
    assert_eq!(store.get_suffix("empty", 4).await.unwrap().unwrap().bytes.len(), 0);
    assert_eq!(store.get_range("ten", 10..20).await.unwrap().unwrap().bytes.len(), 0);
}

#[tokio::test]
async fn only_404_means_missing() {
    let server = Server::new(&[]);
    server.disk().put("x", Bytes::from_static(b"0123456789")).await.unwrap();
    let (store, url) = (server.web(), server.url.clone());
    for (status, kind, message) in [
        (401, Kind::Invalid, format!("no valid credentials to read {url}/x")),
        (403, Kind::Invalid, format!("no permission to read {url}/x")),
        (405, Kind::Invalid, format!("can't read {url}/x: the server doesn't allow it")),
        (410, Kind::Unavailable, format!("can't read {url}/x: ")),
        (451, Kind::Unavailable, format!("can't read {url}/x: ")),
    ] {
        server.fault("/x", &[Fault::Status(status)]);
        let error = store.get("x").await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.starts_with(&message) && !error.message.contains("sorry"), "{error}");
        assert!(store.get("x").await.unwrap().is_some());
    }
    server.fault("/x", &[Fault::Status(404)]);
    assert!(store.get("x").await.unwrap().is_none());

    // Nobody is there.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (server, at, _) = open(&format!("http://127.0.0.1:{port}/x")).unwrap();
    let refused = server.get_opts(&at, GetOptions::default());
    let outcome = tokio::time::timeout(Duration::from_millis(50), refused).await;
    assert!(!matches!(outcome, Ok(Ok(_)) | Ok(Err(object_store::Error::NotFound { .. }))));
}

#[tokio::test]
async fn troubled_requests_are_sent_again_and_torn_ones_are_never_taken_for_whole() {
    let server = Server::new(&[]);
    server.disk().put("x", Bytes::from_static(b"0123456789")).await.unwrap();
    let store = server.web();
    server.fault("/x", &[Fault::Status(500), Fault::Status(503)]);
    assert_eq!(&store.get("x").await.unwrap().unwrap().bytes[..], b"0123456789");
    assert_eq!(server.asked().len(), 3);
    // With a tag, the rest is asked for; without one, who asked must ask again.
    server.fault("/x", &[Fault::Torn]);
    assert_eq!(&store.get("x").await.unwrap().unwrap().bytes[..], b"0123456789");
    assert_eq!(server.asked(), ["GET /x -", "GET /x bytes=5-9"]);
    let untagged = Server::new(&[Manner::GivesNoTags]);
    untagged.disk().put("x", Bytes::from_static(b"0123456789")).await.unwrap();
    untagged.fault("/x", &[Fault::Torn]);
    assert_eq!(untagged.web().get("x").await.unwrap_err().kind, Kind::Unavailable);
    // A promise of an exabyte takes no memory.
    untagged.fault("/x", &[Fault::Endless]);
    assert_eq!(untagged.web().get("x").await.unwrap_err().kind, Kind::Unavailable);
    untagged.fault("/x", &[Fault::Endless]);
    assert_eq!(untagged.web().get_at_most("x", 1 << 20).await.unwrap_err().kind, Kind::Data);
}

#[tokio::test]
async fn nothing_is_written_or_listed() {
    let server = Server::new(&[]);
    let store = server.web().child("out").unwrap();
    let url = store.url().to_owned();
    let refused = format!("nothing can be written to {url}: http is read only");
    assert_eq!(store.put("a", Bytes::new()).await.unwrap_err().message, refused);
    assert_eq!(store.put_new("a", Bytes::new()).await.unwrap_err().message, refused);
    assert_eq!(store.upload("a").await.unwrap_err().message, refused);
    assert_eq!(store.delete("a").await.unwrap_err().message, refused);
    assert_eq!(store.delete_prefix("a").await.unwrap_err().message, refused);
    assert_eq!(store.children("").await.unwrap_err().kind, Kind::Invalid);
    assert_eq!(store.list("").await.unwrap_err().kind, Kind::Invalid);
    assert_eq!(server.asked(), [""; 0]);
}

#[test]
fn urls_are_read_as_they_are_written() {
    for (url, shown, prefix) in [
        ("http://x.org", "http://x.org", ""),
        ("HTTPS://x.org:8080/", "https://x.org:8080", ""),
        ("https://x.org/a%20b/c.zarr//", "https://x.org/a%20b/c.zarr", "a b/c.zarr"),
        ("https://x.org/Größe", "https://x.org/Größe", "Größe"),
    ] {
        let (_, path, display) = open(url).unwrap();
        assert_eq!((display.as_str(), path.as_ref()), (shown, prefix));
    }
    for (url, message) in [
        ("http://", "http:// can't be opened: it names no host"),
        ("http:///a", "http:///a can't be opened: it names no host"),
        ("http://x/a//b", "http://x/a//b can't be opened: it has an empty name between two slashes"),
        (
            "https://me:secret@x.org/a",
            "https://...@x.org/a can't be opened: a user and a password in a URL would be kept with the answers",
        ),
        (
            "https://x.org/a?sig=secret",
            "https://x.org/a can't be opened: an array has many objects below its URL, so there is no place for ? or #",
        ),
    ] {
        let error = open(url).unwrap_err();
        assert_eq!((error.kind, error.message.as_str()), (Kind::Invalid, message));
    }
    let (above, name) = Store::open("https://x.org/a%20b/c.zarr").unwrap().parent().unwrap();
    assert_eq!((above.url(), name.as_str()), ("https://x.org/a%20b", "c.zarr"));
    assert!(Store::open("https://x.org").unwrap().parent().is_none());
}

fn image(shape: [usize; 3]) -> AnyVolume {
    let region = Region::whole(shape);
    Volume::new(region, (0..region.voxels()).map(|i| (i % 60_000) as u16 + 1).collect::<Vec<u16>>()).into()
}

async fn write(store: &Store, shards: Option<[usize; 3]>) -> AnyVolume {
    let spec = ArraySpec {
        extent: Extent { shape: [8, 9, 10], planar: false },
        dtype: Dtype::U16,
        chunks: [2, 4, 4],
        shards,
        codec: "zstd".parse().unwrap(),
        dimension_names: ["z", "y", "x"].map(str::to_owned).to_vec(),
        ome: Default::default(),
    };
    let image = image(spec.extent.shape);
    write_whole(store, &spec, &image).await.unwrap();
    image
}

async fn read(array: &Array) -> Result<AnyVolume> {
    array.fetch(&ChunkCache::new(1 << 20), array.extent().region()).await?.decode()
}

#[tokio::test]
async fn arrays_are_read_with_and_without_shards_and_ranges() {
    for manners in [&[][..], &[Manner::LacksRanges], &[Manner::LacksRangesFromTheEnd], &[Manner::GivesNoTags]] {
        for shards in [None, Some([4, 8, 8])] {
            let server = Server::new(manners);
            let image = write(&server.disk().child("a/b.zarr").unwrap(), shards).await;
            let array =
                Array::open(&Stores::default(), &format!("{}/a/b.zarr/", server.url), &Pick::default()).await.unwrap();
            assert_eq!(read(&array).await.unwrap(), image, "{manners:?} {shards:?}");
        }
    }
    let server = Server::new(&[]);
    let disk = server.disk();
    write(&disk, None).await;
    disk.delete("c/0/0/0").await.unwrap();
    let array = Array::open(&Stores::default(), &server.url, &Pick::default()).await.unwrap();
    let fetched = array.fetch(&ChunkCache::new(0), Region::whole([4, 4, 4])).await.unwrap();
    assert_eq!((fetched.missing, fetched.chunks), (1, 2));
    server.fault("/c/1/0/0", &[Fault::Status(403)]);
    let denied = read(&array).await.unwrap_err();
    assert_eq!((denied.kind, denied.message), (Kind::Invalid, format!("no permission to read {}/c/1/0/0", server.url)));
}

#[tokio::test]
async fn groups_are_opened_as_far_as_they_say_what_is_inside() {
    let server = Server::new(&[]);
    let (disk, url) = (server.disk(), server.url.clone());
    let put = async |key: &str, value: serde_json::Value| disk.put(key, value.to_string().into()).await.unwrap();
    let refusal = async |path: &str| {
        let error = Array::open(&Stores::default(), &format!("{url}/{path}"), &Pick::default()).await.unwrap_err();
        assert_eq!(error.kind, Kind::Invalid, "{error}");
        error.message
    };
    assert_eq!(
        refusal("none.zarr").await,
        format!("nothing at {url}/none.zarr: there is no zarr.json, .zarray, .zgroup or .zattrs")
    );
    disk.put("scan.tif", "II*".into()).await.unwrap();
    assert_eq!(refusal("scan.tif").await, format!("{url}/scan.tif is a TIFF file, not a Zarr array"));

    put("plain/zarr.json", json!({"zarr_format": 3, "node_type": "group"})).await;
    write(&disk.child("plain/grey").unwrap(), None).await;
    assert_eq!(refusal("plain").await, format!("{url}/plain is a group, and a web server doesn't say what is inside"));
    let inside = json!({"grey": {}, "grey/deeper": {}});
    put(
        "told/zarr.json",
        json!({"zarr_format": 3, "node_type": "group", "consolidated_metadata": {"metadata": inside}}),
    )
    .await;
    write(&disk.child("told/grey").unwrap(), None).await;
    assert_eq!(
        Array::open(&Stores::default(), &format!("{url}/told"), &Pick::default()).await.unwrap().url(),
        format!("{url}/told/grey")
    );

    put("image/.zgroup", json!({"zarr_format": 2})).await;
    put("image/.zattrs", json!({"bioformats2raw.layout": 3})).await;
    let multiscales = json!([{"axes": ["z", "y", "x"], "datasets": [{"path": "0"}]}]);
    for series in ["0", "1"] {
        put(&format!("image/{series}/.zgroup"), json!({"zarr_format": 2})).await;
        put(&format!("image/{series}/.zattrs"), json!({"multiscales": multiscales})).await;
    }
    let image = write(&disk.child("image/1/0").unwrap(), None).await;
    assert_eq!(
        refusal("image").await,
        format!("{url}/image holds several images, and one must be chosen: series 0 to 1")
    );
    let second = Pick { series: Some(1), ..Pick::default() };
    let array = Array::open(&Stores::default(), &format!("{url}/image"), &second).await.unwrap();
    assert_eq!((array.url(), read(&array).await.unwrap()), (format!("{url}/image/1/0").as_str(), image));
}
