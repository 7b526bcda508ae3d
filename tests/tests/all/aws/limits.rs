use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::cloud::Cloud;
use super::same::{BONE, assert_same};

/// An endpoint of the test's own, for a function with other settings. Gone at the end of the test.
struct Endpoint {
    child: Child,
    url: String,
    folder: TempDir,
}

impl Endpoint {
    /// Starts one that deploys the function under test with these prefixes and settings.
    fn start(inputs: &str, outputs: &str, settings: &[&str]) -> Self {
        // The programs of the workspace lie side by side, one above the tests.
        let programs = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned();
        let program = |name: &str| -> PathBuf {
            let path = programs.join(name);
            assert!(path.is_file(), "{} is not built: localstack/up builds it", path.display());
            path
        };
        let variable = |name: &str| std::env::var(name).unwrap();
        let folder = TempDir::new().unwrap();
        let mut command = Command::new(program("lambda-endpoint"));
        command
            .args(["--listen", "127.0.0.1:0", "--alias", "live"])
            .arg("--folder")
            .arg(folder.path())
            .arg("--function")
            .arg(format!("voxmill={}", program("voxmill-function").display()))
            .args(["--access-key", &variable("AWS_ACCESS_KEY_ID"), "--secret-key", &variable("AWS_SECRET_ACCESS_KEY")])
            .args(["--env", &format!("AWS_ENDPOINT_URL_S3={}", variable("AWS_ENDPOINT_URL_S3"))])
            .args(["--env", &format!("VOXMILL_INPUTS={inputs}"), "--env", &format!("VOXMILL_OUTPUTS={outputs}")])
            .args(settings);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap_or_else(|| panic!("{line}"));
        Self { url: url.to_owned(), child, folder }
    }

    fn run(&self, cloud: &Cloud, line: &str) -> crate::program::Ended {
        cloud.run_with(line, &[("AWS_ENDPOINT_URL_LAMBDA", Some(&self.url))])
    }

    /// What ran, an invocation a line.
    fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("invocations.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Segments of more work than an invocation has time for: each leaves a receipt for what it did, and none is stopped.
///
/// How much time is too little is measured first, so that no machine is too quick for the test.
#[test]
#[ignore = "needs localstack/up"]
fn what_is_not_done_in_time_is_done_by_the_next() {
    let cloud = Cloud::new("time");
    cloud.run(&format!("import {BONE} bone.zarr --chunks 16 --quiet")).well();
    cloud.run(&format!("import {BONE} @/bone.zarr --chunks 16 --quiet")).well();
    let job =
        "--steps 'median size=15 | threshold above=120' --chunks 16 --shards none --block 16 --segment 1000 --quiet";
    cloud.run(&format!("run bone.zarr -o calm {job}")).well();
    // What each call took, in milliseconds, when the longest may take this.
    let calls = |output: &str, seconds: f64| -> Vec<f64> {
        let settings = ["--timeout", &seconds.to_string(), "--memory", "1024"];
        let endpoint = Endpoint::start(&cloud.url, &cloud.url, &settings);
        endpoint.run(&cloud, &format!("run @/bone.zarr -o @/{output} {job} --executor lambda --workers 2")).well();
        assert_same(&cloud.desk.answers("calm"), &cloud.answers(output), output);
        let log = endpoint.log();
        assert!(log.iter().all(|call| call["outcome"] == "ok"), "{log:#?}");
        log.iter().map(|call| call["duration_ms"].as_f64().unwrap()).collect()
    };
    let ample = calls("ample", 900.0);
    let stages = cloud.report("ample")["stages"].as_array().unwrap().len();
    // A check, and for each stage a segment and its end.
    assert_eq!(ample.len(), 2 * stages + 1, "{ample:?}");
    // The function stops after three quarters of its time, and has the last for the block under way.
    let little = ample.iter().copied().fold(0.0, f64::max) * 0.75;
    let calls = calls("little", little / 1000.0);
    assert!(calls.len() > ample.len(), "{calls:?} within {little}, {ample:?} without a limit");
    assert!(calls.iter().all(|&took| took < little), "{calls:?} within {little}");
}

#[test]
#[ignore = "needs localstack/up"]
fn a_function_keeps_to_its_prefixes() {
    let cloud = Cloud::new("prefixes");
    cloud.run(&format!("import {BONE} @/scans/bone.zarr --chunks 16 --quiet")).well();
    let line = "run @/scans/bone.zarr --steps 'threshold above=120' --quiet --executor lambda";
    let (scans, scan, out) = (cloud.line("@/scans"), cloud.line("@/scan"), cloud.line("@/out"));
    let endpoint = Endpoint::start(&scan, &out, &[]);
    endpoint
        .run(&cloud, &format!("{line} -o @/out/run"))
        .badly(2, "the function may not read")
        .hints("among its input prefixes");
    let endpoint = Endpoint::start(&scans, &out, &[]);
    endpoint
        .run(&cloud, &format!("{line} -o @/out2/run"))
        .badly(2, "the function may not write to")
        .hints("among its output prefixes");
    endpoint.run(&cloud, &format!("{line} -o @/out/run")).well();
}

/// One line of JSON for each call, and reports in JSON are read as those in text are.
#[test]
#[ignore = "needs localstack/up"]
fn a_function_logs_a_line_for_each_segment() {
    let cloud = Cloud::new("logs");
    cloud.run(&format!("import {BONE} @/bone.zarr --chunks 16 --quiet")).well();
    let endpoint = Endpoint::start(&cloud.url, &cloud.url, &["--log-format", "json"]);
    let line = "run @/bone.zarr -o @/out --steps 'threshold above=120 | label' --chunks 16 --shards none --block 32 \
                --segment 2 --quiet --executor lambda --workers 2";
    endpoint.run(&cloud, line).well();
    let log = endpoint.log();
    let text = std::fs::read_to_string(endpoint.folder.path().join("function.log")).unwrap();
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let done: Vec<&Value> = lines.iter().filter(|line| line["message"] == "done").collect();
    assert_eq!(done.len(), log.len(), "{text}");
    for (line, call) in done.iter().zip(&log) {
        for field in ["request_id", "run", "output", "task", "ms", "gets", "puts"] {
            assert!(!line[field].is_null(), "{field}: {line}");
        }
        assert!(log.iter().any(|call| call["request_id"] == line["request_id"]), "{line} {call}");
    }
}
