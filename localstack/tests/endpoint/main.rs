//! The endpoint as its callers and its functions see it: a real process, a fake function as another, and raw requests.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::Endpoint;

mod support;
mod trouble;

#[test]
fn an_instance_starts_cold_and_is_used_again() {
    let endpoint = Endpoint::start(&[]);
    let first = endpoint.invoke(json!({ "n": 1 }));
    assert_eq!(first.status, 200);
    assert_eq!(first.header("x-amz-executed-version"), Some("$LATEST"));
    assert_eq!(first.header("x-amz-function-error"), None);
    assert_eq!(first.json()["event"], json!({ "n": 1 }));
    let log = first.log();
    let id = first.header("x-amzn-requestid").unwrap();
    assert!(log.starts_with(&format!("START RequestId: {id} Version: $LATEST\n")), "{log}");
    assert!(log.contains(&format!("END RequestId: {id}\nREPORT RequestId: {id}\tDuration: ")), "{log}");
    assert!(log.contains("\tInit Duration: "), "{log}");
    assert!(!log.contains("fake function starts"), "what it printed before belongs to no invocation: {log}");
    let second = endpoint.invoke(json!({ "n": 2 }));
    assert_eq!(second.json()["calls"], 2);
    assert_eq!(second.json()["pid"], first.json()["pid"]);
    assert!(!second.log().contains("Init Duration"));
    let records = endpoint.log(2);
    assert_eq!([&records[0]["cold"], &records[1]["cold"]], [true, false]);
    assert_eq!(records[0]["instance"], records[1]["instance"]);
    assert_eq!(records[0]["request_id"], id);
    assert_eq!(records[0]["outcome"], "ok");
    let billed = records[0]["billed_ms"].as_f64().unwrap();
    let measured = records[0]["duration_ms"].as_f64().unwrap() + records[0]["init_ms"].as_f64().unwrap();
    assert!((measured..measured + 1.0).contains(&billed), "{billed} {measured}");
    assert!(records[0]["max_memory_mb"].as_u64().unwrap() > 3);
    let file = std::fs::read_to_string(endpoint.folder.join("invocations.jsonl")).unwrap();
    assert_eq!(file.lines().count(), 2);
}

#[test]
fn an_instance_has_one_request_at_a_time_and_there_are_only_so_many() {
    let endpoint = Endpoint::start(&["--concurrency", "3"]);
    let answers: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..5).map(|_| scope.spawn(|| endpoint.invoke(json!({ "do": "sleep", "s": 2 })))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (ran, throttled): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert_eq!((ran.len(), throttled.len()), (3, 2));
    assert!(ran.iter().all(|answer| answer.json()["calls"] == 1), "each in an instance of its own");
    for answer in throttled {
        assert_eq!(answer.status, 429);
        assert_eq!(answer.header("x-amzn-errortype"), Some("TooManyRequestsException"));
        assert_eq!(answer.json()["Reason"], "ReservedFunctionConcurrentInvocationLimitExceeded");
    }
    let standing = endpoint.control("GET", "", Value::Null);
    assert_eq!(standing["functions"][0]["idle"].as_array().unwrap().len(), 3);
    assert_eq!(standing["functions"][0]["throttled"], 2);
}

#[test]
fn the_account_has_a_limit_of_its_own() {
    let endpoint = Endpoint::start(&["--account-concurrency", "1"]);
    let answers: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..2).map(|_| scope.spawn(|| endpoint.invoke(json!({ "do": "sleep", "s": 1 })))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let refused = answers.iter().find(|answer| answer.status == 429).unwrap();
    assert_eq!(refused.json()["Reason"], "ConcurrentInvocationLimitExceeded");
}

#[test]
fn a_function_gets_lambdas_environment_and_nothing_else() {
    let endpoint = Endpoint::start(&["--env", "VOXMILL_LOG=debug", "--memory", "512", "--alias", "prod"]);
    let env = endpoint.invoke(json!({ "do": "env" })).json();
    assert_eq!(env["VOXMILL_LOG"], "debug");
    assert_eq!(env["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"], "512");
    assert_eq!(env["AWS_LAMBDA_FUNCTION_VERSION"], "$LATEST");
    assert_eq!(env["AWS_REGION"], "us-east-1");
    assert_eq!(env["AWS_ACCESS_KEY_ID"], "AKIALOCAL");
    for absent in ["HOME", "USER", "CARGO_MANIFEST_DIR", "AWS_SESSION_TOKEN"] {
        assert_eq!(env[absent], Value::Null, "{absent}");
    }
    let headers =
        endpoint.ask("POST", "/2015-03-31/functions/fake:prod/invocations", &[], br#"{"do": "headers"}"#).unwrap();
    assert_eq!(headers.header("x-amz-executed-version"), Some("1"));
    let headers = headers.json();
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:fake:prod";
    assert_eq!(headers["lambda-runtime-invoked-function-arn"], arn);
    let deadline: u128 = headers["lambda-runtime-deadline-ms"].as_str().unwrap().parse().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    assert!((now + 890_000..now + 900_001).contains(&deadline), "{deadline} {now}");
    assert!(headers["lambda-runtime-trace-id"].as_str().unwrap().starts_with("Root=1-"));
}

#[test]
fn functions_are_found_by_name_version_and_alias_only() {
    let endpoint = Endpoint::start(&["--concurrency", "4", "--log-format", "json"]);
    let get = |path: &str| endpoint.ask("GET", path, &[], b"").unwrap();
    let latest = get("/2015-03-31/functions/fake/configuration").json();
    assert_eq!(latest["Version"], "$LATEST");
    assert_eq!(latest["LoggingConfig"]["LogFormat"], "JSON");
    assert_eq!((&latest["MemorySize"], &latest["Timeout"]), (&json!(2048), &json!(900)));
    assert_eq!(latest["State"], "Active");
    let alias = get("/2015-03-31/functions/fake/configuration?Qualifier=live").json();
    assert_eq!(alias["Version"], "1");
    assert_eq!(alias["FunctionArn"], "arn:aws:lambda:us-east-1:000000000000:function:fake:live");
    assert_eq!(alias["CodeSha256"], latest["CodeSha256"]);
    assert_eq!(get("/2015-03-31/functions/fake").json()["Configuration"]["Version"], "$LATEST");
    let arn = "arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Afake";
    assert_eq!(get(&format!("/2015-03-31/functions/{arn}/configuration")).status, 200);
    assert_eq!(get("/2019-09-30/functions/fake/concurrency").json(), json!({ "ReservedConcurrentExecutions": 4 }));
    assert_eq!(get("/2019-09-30/functions/sleeper/concurrency").json(), json!({}));
    let account = get("/2016-08-19/account-settings").json();
    assert_eq!(account["AccountLimit"]["ConcurrentExecutions"], 1000);
    assert_eq!(account["AccountLimit"]["UnreservedConcurrentExecutions"], 996);
    for path in ["/2015-03-31/functions/none/configuration", "/2015-03-31/functions/fake/configuration?Qualifier=9"] {
        let answer = get(path);
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.header("x-amzn-errortype"), Some("ResourceNotFoundException"));
        assert!(answer.json()["Message"].as_str().unwrap().starts_with("Function not found: arn:aws:lambda:"));
    }
    let report = endpoint.invoke(json!({})).log();
    let line: Value = serde_json::from_str(report.lines().last().unwrap()).unwrap();
    assert_eq!(line["type"], "platform.report");
    assert_eq!(line["record"]["metrics"]["memorySizeMB"], 2048);
}

#[test]
fn whoever_has_no_known_key_or_permission_is_refused() {
    let endpoint = Endpoint::start(&[]);
    let path = "/2015-03-31/functions/fake/invocations";
    let kind = |headers: &[(&str, &str)]| {
        let answer = endpoint.send("POST", path, headers, b"{}").unwrap();
        assert_eq!(answer.status, 403);
        answer.header("x-amzn-errortype").unwrap().to_owned()
    };
    assert_eq!(kind(&[]), "MissingAuthenticationTokenException");
    assert_eq!(
        kind(&[("Authorization", &support::SIGNED.replace("AKIALOCAL", "OTHER"))]),
        "UnrecognizedClientException"
    );
    assert_eq!(
        kind(&[("Authorization", &support::SIGNED.replace("us-east-1", "eu-west-1"))]),
        "InvalidSignatureException"
    );
    endpoint.control("PUT", "/faults", json!({ "deny": ["GetAccountSettings"] }));
    let answer = endpoint.ask("GET", "/2016-08-19/account-settings", &[], b"").unwrap();
    assert_eq!(answer.header("x-amzn-errortype"), Some("AccessDeniedException"));
    assert_eq!(endpoint.invoke(json!({})).status, 200);
}

#[test]
fn payloads_have_a_limit_both_ways() {
    let endpoint = Endpoint::start(&[]);
    let path = "/2015-03-31/functions/fake/invocations";
    let large = format!("{{\"x\": \"{}\"}}", "y".repeat(6 * 1024 * 1024));
    let answer = endpoint.ask("POST", path, &[], large.as_bytes()).unwrap();
    assert_eq!((answer.status, answer.header("x-amzn-errortype")), (413, Some("RequestEntityTooLargeException")));
    let answer =
        endpoint.ask("POST", path, &[("X-Amz-Invocation-Type", "Event")], &large.as_bytes()[..2_000_000]).unwrap();
    assert_eq!(answer.status, 413);
    let answer = endpoint.ask("POST", path, &[], b"no json").unwrap();
    assert_eq!((answer.status, answer.header("x-amzn-errortype")), (400, Some("InvalidRequestContentException")));
    let fits = endpoint.invoke(json!({ "do": "big", "bytes": 6 * 1024 * 1024 }));
    assert_eq!((fits.status, fits.body.len()), (200, 6 * 1024 * 1024 + 2));
    let (kind, _) = endpoint.invoke(json!({ "do": "big", "bytes": 6 * 1024 * 1024 + 100 })).error();
    assert_eq!(kind, "Function.ResponseSizeTooLarge");
    assert_eq!(endpoint.invoke(json!({})).json()["calls"], 3, "the instance goes on");
}

#[test]
fn an_event_is_answered_at_once_and_tried_three_times() {
    let endpoint = Endpoint::start(&["--event-pauses", "0.05,0.1"]);
    let event = [("X-Amz-Invocation-Type", "Event")];
    let answer = endpoint.invoke_with(json!({ "do": "no such word" }), &event).unwrap();
    assert_eq!((answer.status, answer.body.len()), (202, 0));
    let records = endpoint.log(3);
    let attempts: Vec<u64> = records.iter().map(|record| record["attempt"].as_u64().unwrap()).collect();
    assert_eq!(attempts, [1, 2, 3]);
    assert!(records.iter().all(|r| r["request_id"] == records[0]["request_id"] && r["outcome"] == "error"));
    assert_eq!(endpoint.invoke_with(json!({}), &event).unwrap().status, 202);
    assert_eq!(endpoint.log(4)[3]["outcome"], "ok");
    let dry = endpoint.invoke_with(json!({}), &[("X-Amz-Invocation-Type", "DryRun")]).unwrap();
    assert_eq!(dry.status, 204);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(endpoint.log(4).len(), 4, "nothing else ran");
}

#[test]
fn nothing_runs_between_invocations() {
    let mark = std::env::temp_dir().join(format!("background-{}", std::process::id()));
    let endpoint = Endpoint::start(&["--env", &format!("FAKE_BACKGROUND={}", mark.display())]);
    endpoint.invoke(json!({ "do": "sleep", "s": 0.2 }));
    let length = || std::fs::metadata(&mark).map_or(0, |m| m.len());
    let before = length();
    assert!(before > 0, "it runs while there is an invocation");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(length(), before);
    assert_eq!(endpoint.invoke(json!({ "do": "sleep", "s": 0.2 })).json()["calls"], 2);
    assert!(length() > before);
    std::fs::remove_file(&mark).unwrap();
}

#[test]
fn idle_instances_end_and_so_do_all_when_the_endpoint_is_killed() {
    let alive = |pid: &Value| std::path::Path::new(&format!("/proc/{pid}")).exists();
    let gone = |pid: &Value| {
        let start = Instant::now();
        while alive(pid) {
            assert!(start.elapsed() < Duration::from_secs(10), "process {pid} is still there");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let endpoint = Endpoint::start(&["--idle-limit", "0.3"]);
    let first = endpoint.invoke(json!({})).json();
    gone(&first["pid"]);
    assert_eq!(endpoint.invoke(json!({})).json()["calls"], 1, "a new one");
    drop(endpoint);

    let mut endpoint = Endpoint::start(&[]);
    let pid = endpoint.invoke(json!({})).json()["pid"].clone();
    assert!(alive(&pid));
    assert!(endpoint.pid() > 0);
    endpoint.kill();
    gone(&pid);
}

#[test]
fn sleepers_cost_no_process() {
    let endpoint = Endpoint::start(&[]);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..200 {
            scope.spawn(|| {
                let path = "/2015-03-31/functions/sleeper/invocations";
                let answer = endpoint.ask("POST", path, &[], br#"{"ms": 300}"#).unwrap();
                assert_eq!(answer.json(), json!({ "slept_ms": 300.0 }));
            });
        }
    });
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert_eq!(endpoint.log(200).len(), 200);
}
