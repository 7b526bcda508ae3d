//! What goes wrong by itself, and what goes wrong on demand.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::Endpoint;

#[test]
fn a_function_that_fails_says_so_and_goes_on() {
    let endpoint = Endpoint::start(&[]);
    let answer = endpoint.invoke(json!({ "do": "nonsense" }));
    assert_eq!(answer.error(), ("Fake.Error".to_owned(), "no such word: nonsense".to_owned()));
    assert!(!answer.log().contains("Status: error"), "{}", answer.log());
    assert_eq!(endpoint.invoke(json!({})).json()["calls"], 2);
    assert_eq!(endpoint.log(2)[0]["error_type"], "Fake.Error");
}

#[test]
fn a_process_that_ends_is_told_from_a_function_that_fails() {
    let endpoint = Endpoint::start(&[]);
    let answer = endpoint.invoke(json!({ "do": "exit", "code": 3 }));
    let (kind, message) = answer.error();
    let id = answer.header("x-amzn-requestid").unwrap();
    assert_eq!(kind, "Runtime.ExitError");
    assert_eq!(message, format!("RequestId: {id} Error: Runtime exited with error: exit status 3"));
    let log = answer.log();
    assert!(log.contains("about to exit\n"), "{log}");
    assert!(log.contains("\tStatus: error\tError Type: Runtime.ExitError\t\n"), "{log}");
    let (_, message) = endpoint.invoke(json!({ "do": "exit", "code": 0 })).error();
    assert!(message.ends_with("Error: Runtime exited without providing a reason"), "{message}");
    let (_, message) = endpoint.invoke(json!({ "do": "abort" })).error();
    assert!(message.ends_with("signal: aborted"), "{message}");
    assert_eq!(endpoint.invoke(json!({})).json()["calls"], 1, "a new process");
    let outcomes: Vec<Value> = endpoint.log(4).iter().map(|record| record["outcome"].clone()).collect();
    assert_eq!(outcomes, ["exit", "exit", "exit", "ok"]);
}

#[test]
fn time_and_memory_have_limits() {
    let endpoint = Endpoint::start(&["--timeout", "1.5"]);
    let start = Instant::now();
    let answer = endpoint.invoke(json!({ "do": "sleep", "s": 60 }));
    assert!(start.elapsed() < Duration::from_secs(20));
    let (kind, message) = answer.error();
    assert_eq!(kind, "Sandbox.Timedout");
    assert!(message.ends_with("Error: Task timed out after 1.50 seconds"), "{message}");
    assert!(answer.log().contains("\tStatus: timeout\t"), "{}", answer.log());
    assert!(answer.log().contains(" Task timed out after 1.50 seconds\n"), "{}", answer.log());
    let record = &endpoint.log(1)[0];
    assert_eq!(record["outcome"], "timeout");
    assert!(record["billed_ms"].as_u64().unwrap() >= 1500);

    let endpoint = Endpoint::start(&["--memory", "128"]);
    let answer = endpoint.invoke(json!({ "do": "grow", "mb": 200, "s": 30 }));
    let (kind, message) = answer.error();
    assert_eq!(kind, "Runtime.ExitError");
    assert!(message.ends_with("Error: Runtime exited with error: signal: killed"), "{message}");
    assert!(answer.log().contains("Max Memory Used: 128 MB"), "{}", answer.log());
    // Also when it is all over before anyone has looked.
    assert_eq!(endpoint.invoke(json!({ "do": "grow", "mb": 200 })).error().0, "Runtime.ExitError");
    let records = endpoint.log(2);
    assert_eq!((&records[0]["outcome"], &records[0]["max_memory_mb"]), (&json!("out_of_memory"), &json!(128)));
    assert_eq!(records[1]["outcome"], "out_of_memory");
}

#[test]
fn a_start_that_fails_is_tried_once_more_within_the_invocation() {
    let mark = std::env::temp_dir().join(format!("start-{}", std::process::id()));
    let marked = format!("FAKE_MARK={}", mark.display());
    let endpoint = Endpoint::start(&["--init-limit", "1", "--env", "FAKE_START=hang once", "--env", &marked]);
    let answer = endpoint.invoke(json!({}));
    std::fs::remove_file(&mark).unwrap();
    assert_eq!(answer.json()["calls"], 1);
    assert_eq!(endpoint.log(1)[0]["outcome"], "ok");
    assert_eq!(endpoint.log(1)[0]["init_ms"], Value::Null);

    let endpoint = Endpoint::start(&["--env", "FAKE_START=exit"]);
    let answer = endpoint.invoke(json!({}));
    let (kind, message) = answer.error();
    assert_eq!(kind, "Runtime.ExitError");
    assert!(message.ends_with("exit status 7"), "{message}");
    let log = answer.log();
    for phase in ["Phase: init\tStatus: error\tError Type: Runtime.ExitError", "Phase: invoke\tStatus: error"] {
        assert!(log.contains(phase), "{log}");
    }
    assert_eq!(endpoint.log(1)[0]["outcome"], "init_exit");

    let endpoint = Endpoint::start(&["--env", "FAKE_START=error"]);
    assert_eq!(endpoint.invoke(json!({})).error(), ("Fake.Start".to_owned(), "no start".to_owned()));
    assert_eq!(endpoint.log(1)[0]["outcome"], "init_error");
}

#[test]
fn the_tail_of_a_long_log_is_its_end() {
    let endpoint = Endpoint::start(&[]);
    let log = endpoint.invoke(json!({ "do": "print", "lines": 5000 })).log();
    assert_eq!(log.len(), 4096);
    assert!(log.contains("line 4999\nEND RequestId: "), "{log}");
    let all = std::fs::read_to_string(endpoint.folder.join("function.log")).unwrap();
    assert_eq!(all.lines().filter(|line| line.starts_with("line ")).count(), 5000);
}

#[test]
fn answers_are_lost_after_the_function_ran_or_before() {
    let endpoint = Endpoint::start(&[]);
    let faults = json!({ "drop_after": { "next": 1 }, "bad_gateway": { "next": 2 } });
    endpoint.control("PUT", "/faults", faults);
    assert!(endpoint.invoke_with(json!({}), &[]).is_err());
    assert_eq!(endpoint.log(1)[0]["fault"], "drop_after");
    let bad = endpoint.invoke(json!({}));
    assert_eq!((bad.status, bad.header("x-amzn-errortype")), (502, None));
    assert_eq!(endpoint.invoke(json!({})).json()["calls"], 3, "both ran");

    endpoint.control("PUT", "/faults", json!({ "drop_before": { "next": 1 }, "server_error": { "next": 1 } }));
    assert!(endpoint.invoke_with(json!({}), &[]).is_err());
    assert_eq!(endpoint.invoke(json!({})).status, 500);
    assert_eq!(endpoint.invoke(json!({})).json()["calls"], 4, "neither ran");
    let standing = endpoint.control("GET", "/faults", Value::Null);
    assert_eq!(standing["struck"]["drop_before"], 1);
}

#[test]
fn throttles_and_slowness_come_on_demand() {
    let endpoint = Endpoint::start(&[]);
    endpoint.control("PUT", "/faults", json!({ "throttle": { "next": 1 }, "slow": { "one_in": 1, "ms": 400 } }));
    let answer = endpoint.invoke(json!({}));
    assert_eq!((answer.status, &answer.json()["Reason"]), (429, &json!("CallerRateLimitExceeded")));
    let start = Instant::now();
    assert_eq!(endpoint.invoke(json!({})).status, 200);
    assert!(start.elapsed() >= Duration::from_millis(400));
    endpoint.control("PUT", "/faults", json!({ "concurrency": 0 }));
    assert_eq!(endpoint.invoke(json!({})).status, 429);
    endpoint.control("DELETE", "/faults", Value::Null);
    assert_eq!(endpoint.invoke(json!({})).status, 200);
    let refused = endpoint.send("PUT", "/_control/faults", &[], br#"{"throtle": {}}"#).unwrap();
    assert_eq!(refused.status, 400);
}

#[test]
fn instances_are_killed_by_chance_and_by_hand() {
    let endpoint = Endpoint::start(&[]);
    endpoint.control("PUT", "/faults", json!({ "seed": 5, "kill": { "one_in": 2, "within_ms": 200 } }));
    let killed =
        (0..8).filter(|_| endpoint.invoke(json!({ "do": "sleep", "s": 0.4 })).json()["errorType"] != Value::Null);
    let killed = killed.count();
    assert!((1..8).contains(&killed), "{killed}");
    let records = endpoint.log(8);
    assert_eq!(records.iter().filter(|record| record["outcome"] == "killed").count(), killed);

    endpoint.control("DELETE", "/faults", Value::Null);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| endpoint.invoke(json!({ "do": "sleep", "s": 60 })));
        while endpoint.control("GET", "", Value::Null)["functions"][0]["in_flight"] == 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_millis(300));
        endpoint.control("DELETE", "/instances?all=true", Value::Null);
        assert!(running.join().unwrap().error().1.ends_with("signal: killed"));
    });
    assert_eq!(endpoint.invoke(json!({})).json()["calls"], 1);
    endpoint.control("DELETE", "/instances", Value::Null);
    assert_eq!(endpoint.invoke(json!({})).json()["calls"], 1, "the one that waited has ended");
}
