//! What `localstack/up` has started: a bucket, a function, and what may be asked of the endpoint that runs it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use pipeline::store::{AccessKey, Credentials, S3Settings, Store, Stores};
use serde_json::{Value, json};

use crate::program::{Desk, Ended};

/// The bucket, the function, and a place of its own for each test.
pub(super) struct Cloud {
    /// `s3://BUCKET/NAME`, where nothing else is.
    pub(super) url: String,
    pub(super) desk: Desk,
    endpoint: String,
    has_control: bool,
    stores: Stores,
    runtime: tokio::runtime::Runtime,
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: eval \"$(localstack/up)\" first"))
}

impl Cloud {
    /// A place for the test of this name. Nothing goes wrong until it is told to.
    pub(super) fn new(test: &str) -> Self {
        static PLACES: AtomicU64 = AtomicU64::new(0);
        let place = PLACES.fetch_add(1, Ordering::Relaxed);
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
        let url = format!("s3://{}/{test}-{now}-{place}", variable("VOXMILL_BUCKET"));
        let key = AccessKey {
            id: variable("AWS_ACCESS_KEY_ID"),
            secret: variable("AWS_SECRET_ACCESS_KEY"),
            session_token: None,
        };
        let settings = S3Settings {
            region: variable("AWS_REGION"),
            endpoint: Some(variable("AWS_ENDPOINT_URL_S3")),
            credentials: Some(Credentials::fixed(key)),
            tag_scratch: false,
        };
        let stores = Stores::new(move || std::future::ready(Ok(settings.clone())));
        let endpoint = variable("AWS_ENDPOINT_URL_LAMBDA").trim_start_matches("http://").to_owned();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut cloud = Self { url, desk: Desk::new(), endpoint, has_control: true, stores, runtime };
        // An endpoint that others wrote has no faults to be set.
        cloud.has_control = cloud.ask("DELETE", "/_control/faults", &[], "").0 == 204;
        if cloud.has_control {
            cloud.forget();
        }
        cloud
    }

    /// Runs `voxmill LINE`, in which `@` is this place.
    pub(super) fn run(&self, line: &str) -> Ended {
        self.desk.run(&self.line(line))
    }

    /// A line with `@` replaced.
    pub(super) fn line(&self, line: &str) -> String {
        line.replace('@', &self.url)
    }

    /// Runs `voxmill LINE` with other variables; one without a value is taken away.
    pub(super) fn run_with(&self, line: &str, variables: &[(&str, Option<&str>)]) -> Ended {
        let mut command = self.desk.command(&self.line(line));
        for (name, value) in variables {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        crate::program::Started::new(command, line).end()
    }

    pub(super) fn store(&self, name: &str) -> Store {
        self.wait(self.stores.open(&format!("{}/{name}", self.url))).unwrap()
    }

    pub(super) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Every object of an output with its bytes, but for run.json and the run's own state.
    pub(super) fn answers(&self, output: &str) -> BTreeMap<String, Vec<u8>> {
        let store = self.store(output);
        self.wait(async {
            let mut answers = BTreeMap::new();
            for entry in store.list("").await.unwrap() {
                if entry.key != "run.json" && !entry.key.starts_with(".voxmill/") {
                    let bytes = store.get(&entry.key).await.unwrap().unwrap().bytes;
                    answers.insert(entry.key, bytes.to_vec());
                }
            }
            answers
        })
    }

    /// `run.json` of an output.
    pub(super) fn report(&self, output: &str) -> Value {
        let store = self.store(output);
        serde_json::from_slice(&self.wait(store.get("run.json")).unwrap().unwrap().bytes).unwrap()
    }

    /// What is to go wrong from now on.
    pub(super) fn faults(&self, faults: &Value) {
        let (status, _) = self.ask("PUT", "/_control/faults", &[], &faults.to_string());
        assert_eq!(status, 204);
    }

    /// How often each fault has struck since they were set.
    pub(super) fn struck(&self) -> Value {
        self.asked("/_control/faults")["struck"].clone()
    }

    /// What ran since this test began.
    pub(super) fn log(&self) -> Vec<Value> {
        self.asked("/_control/log")["invocations"].as_array().unwrap().clone()
    }

    /// Forgets what ran, and ends the instances that wait.
    fn forget(&self) {
        assert_eq!(self.ask("DELETE", "/_control/log", &[], "").0, 204);
        assert_eq!(self.ask("DELETE", "/_control/instances", &[], "").0, 204);
    }

    fn asked(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path, &[], "");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Calls the function as the program does, but with any payload; gives the error it ends in, or what it says.
    pub(super) fn invoke(&self, payload: &Value) -> Value {
        let key = variable("AWS_ACCESS_KEY_ID");
        let signed = format!(
            "AWS4-HMAC-SHA256 Credential={key}/20260101/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=0"
        );
        let function = variable("VOXMILL_FUNCTION");
        let (name, qualifier) = function.split_once(':').unwrap_or((&function, "$LATEST"));
        let path = format!("/2015-03-31/functions/{name}/invocations?Qualifier={qualifier}");
        let (status, body) = self.ask("POST", &path, &[("Authorization", &signed)], &payload.to_string());
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// One request to the endpoint, in plain HTTP.
    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.endpoint).unwrap();
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let (host, length) = (&self.endpoint, body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n"
        );
        stream.write_all((head + body).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Makes a bucket, or with `DELETE` takes it away with all that is in it.
    pub(super) fn bucket(&self, method: &str, name: &str) {
        let ask =
            "import probe, sys; status, said = probe.ask_store(*sys.argv[1:]); sys.exit(0 if status < 300 else said)";
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../localstack");
        let done = Command::new("python3").current_dir(folder).args(["-c", ask, method, &format!("/{name}")]).output();
        let done = done.unwrap();
        assert!(done.status.success(), "{method} {name}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Stops, starts or kills one of the services.
    pub(super) fn service(&self, name: &str, action: &str) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../localstack/service");
        let done = Command::new(script).args([name, action]).output().unwrap();
        assert!(done.status.success(), "{name} {action}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        // The next test is not to meet what this one wished for.
        if self.has_control && !std::thread::panicking() {
            self.faults(&json!({}));
        }
    }
}
