//! An endpoint for one test, and a client that is nothing but bytes on a socket.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::Value;

/// An endpoint with the fake function as `fake`.
pub(crate) struct Endpoint {
    child: Child,
    pub(crate) address: String,
    pub(crate) folder: PathBuf,
}

impl Endpoint {
    /// Starts one with these options.
    pub(crate) fn start(options: &[&str]) -> Self {
        static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("endpoint-{}-{number}", std::process::id()));
        let fake = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/endpoint/fake.py");
        let mut child = Command::new(env!("CARGO_BIN_EXE_lambda-endpoint"))
            .arg("--folder")
            .arg(&folder)
            .arg("--function")
            .arg(format!("fake={}", fake.display()))
            .args(options)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").expect("the endpoint prints its address").to_owned();
        Self { child, address, folder }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a request and reads the answer.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        head += &format!("Content-Length: {}\r\n", body.len());
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        stream.write_all(body)?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        Answer::parse(&bytes).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// A signed request.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
        let mut all = vec![("Authorization", SIGNED)];
        all.extend_from_slice(headers);
        self.send(method, path, &all, body)
    }

    /// Invokes the fake function and waits, with the end of its log.
    pub(crate) fn invoke(&self, payload: Value) -> Answer {
        self.invoke_with(payload, &[]).unwrap()
    }

    /// The same with headers, and what may go wrong on the way.
    pub(crate) fn invoke_with(&self, payload: Value, headers: &[(&str, &str)]) -> io::Result<Answer> {
        let mut all = vec![("X-Amz-Log-Type", "Tail")];
        all.extend_from_slice(headers);
        self.ask("POST", "/2015-03-31/functions/fake/invocations", &all, payload.to_string().as_bytes())
    }

    /// Asks for something of the control API.
    pub(crate) fn control(&self, method: &str, path: &str, body: Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.send(method, &format!("/_control{path}"), &[], body.as_bytes()).unwrap();
        assert!(answer.status < 300, "{method} {path}: {} {}", answer.status, answer.text());
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    /// What ran, once there are so many records of it.
    pub(crate) fn log(&self, records: usize) -> Vec<Value> {
        let start = Instant::now();
        loop {
            let log = self.control("GET", "/log", Value::Null);
            let log = log["invocations"].as_array().unwrap().clone();
            if log.len() >= records {
                return log;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "{} of {records} records", log.len());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A signature of a key that the endpoint knows.
pub(crate) const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=AKIALOCAL/20261123/us-east-1/lambda/aws4_request, \
                                 SignedHeaders=host;x-amz-date, Signature=00";

/// An answer, taken apart.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines.filter_map(|line| line.split_once(": ").map(|(n, v)| (n.to_lowercase(), v.to_owned())));
        Some(Self { status, headers: headers.collect(), body: bytes[end + 4..].to_vec() })
    }

    /// A header, if it is there.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The end of the log.
    pub(crate) fn log(&self) -> String {
        let bytes = base64::engine::general_purpose::STANDARD.decode(self.header("x-amz-log-result").unwrap()).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// The type and message of a function's error.
    pub(crate) fn error(&self) -> (String, String) {
        assert_eq!(self.status, 200);
        assert_eq!(self.header("x-amz-function-error"), Some("Unhandled"), "{}", self.text());
        let json = self.json();
        let text = |name: &str| json[name].as_str().unwrap().to_owned();
        (text("errorType"), text("errorMessage"))
    }
}
