use serde_json::json;

use super::cloud::Cloud;
use super::same::BONE;

const JOB: &str = "run @/bone.zarr -o @/out --steps 'threshold above=120' --quiet";
const LAMBDA: &str = "run @/bone.zarr -o @/out --steps 'threshold above=120' --quiet --executor lambda";

#[test]
#[ignore = "needs localstack/up"]
fn what_is_wrong_with_a_bucket_is_told() {
    let cloud = Cloud::new("bucket");
    let nobody =
        [("AWS_ACCESS_KEY_ID", None), ("AWS_SECRET_ACCESS_KEY", None), ("AWS_EC2_METADATA_DISABLED", Some("true"))];
    cloud.run_with("info @/bone.zarr", &nobody).badly(2, "there are no AWS credentials").hints("AWS_PROFILE");
    cloud
        .run_with("info @/bone.zarr", &[("AWS_ACCESS_KEY_ID", Some("AKIANOBODY"))])
        .badly(2, "S3 doesn't know the access key")
        .hints("AWS_ACCESS_KEY_ID");
    cloud
        .run_with("info @/bone.zarr", &[("AWS_SECRET_ACCESS_KEY", Some("wrong"))])
        .badly(2, "the secret access key is not the one")
        .hints("AWS_SECRET_ACCESS_KEY");
    cloud
        .run_with("info @/bone.zarr", &[("AWS_ENDPOINT_URL_S3", Some("http://127.0.0.1:9"))])
        .badly(4, "nobody answers at its address")
        .hints("AWS_ENDPOINT_URL_S3");
    cloud.run("info s3://voxmill-nowhere/bone.zarr").badly(2, "there is no bucket s3://voxmill-nowhere");
    cloud.run("info @/bone.zarr").badly(2, "nothing at s3://");
    cloud.run(&format!("import {BONE} @/bone.zarr --quiet")).well();
    cloud
        .run("run @/bone.zarr -o s3://voxmill-nowhere/out --steps 'threshold above=120'")
        .badly(2, "there is no bucket s3://voxmill-nowhere");
    // A key that may only read.
    let reader =
        [("AWS_ACCESS_KEY_ID", Some("AKIAVOXMILLREADER000")), ("AWS_SECRET_ACCESS_KEY", Some("voxmill-reader-secret"))];
    cloud.run_with("info @/bone.zarr", &reader).well();
    cloud.run_with(JOB, &reader).badly(2, "no permission to write").hints("s3:PutObject");
    // Nothing of it was taken for done.
    cloud.run(JOB).well();
}

#[test]
#[ignore = "needs localstack/up"]
fn what_is_wrong_with_a_function_is_told() {
    let cloud = Cloud::new("function");
    cloud.run(&format!("import {BONE} @/bone.zarr --quiet")).well();
    cloud.run(&format!("{LAMBDA} --function nothing")).badly(2, "there is no function nothing").hints("--function");
    cloud.run(&format!("{LAMBDA} --function voxmill:77")).badly(2, "there is no function voxmill:77");
    cloud.run_with(LAMBDA, &[("VOXMILL_FUNCTION", None)]).badly(2, "none is named").hints("VOXMILL_FUNCTION");
    cloud.run(&format!("{LAMBDA} --function sleeper")).badly(2, "answered what no voxmill does").hints("--function");
    cloud
        .run_with(LAMBDA, &[("AWS_ENDPOINT_URL_LAMBDA", Some("http://127.0.0.1:9"))])
        .badly(4, "no answer came")
        .hints("AWS_ENDPOINT_URL_LAMBDA");
    cloud
        .run_with(LAMBDA, &[("AWS_REGION", Some("eu-west-1"))])
        .badly(2, "AWS does not take the signature")
        .hints("AWS_REGION");
    cloud
        .run("run @/bone.zarr -o on-a-disk --steps 'threshold above=120' --executor lambda")
        .badly(2, "the function may not write to")
        .hints("a function sees no disk of yours");
    cloud.run(&format!("{JOB} --function voxmill")).badly(2, "--function names what --executor lambda calls");
    cloud.run(&format!("{LAMBDA} --memory 100GiB")).badly(2, "--memory is more than");
    cloud.faults(&json!({ "deny": ["GetFunctionConfiguration"] }));
    cloud.run(LAMBDA).badly(2, "no permission").hints("lambda:GetFunctionConfiguration");
    cloud.faults(&json!({ "deny": ["InvokeFunction"] }));
    cloud.run(LAMBDA).badly(2, "no permission").hints("lambda:InvokeFunction");
    // It works without being told how much the account may run.
    cloud.faults(&json!({ "deny": ["GetAccountSettings", "GetFunctionConcurrency"] }));
    cloud.run(LAMBDA).well();
}

/// Whoever calls the function: places it was not deployed for, other versions, and nonsense are refused.
#[test]
#[ignore = "needs localstack/up"]
fn the_function_refuses_what_is_not_its_own() {
    let cloud = Cloud::new("refuses");
    let ours = env!("CARGO_PKG_VERSION");
    let ask = |voxmill: &str, output: &str, reads: &[&str]| {
        cloud.invoke(
            &json!({ "voxmill": voxmill, "output": output, "run": "r", "call": { "check": { "reads": reads } } }),
        )
    };
    let inside = format!("{}/out", cloud.url);
    assert_eq!(ask(ours, &inside, &[&inside])["said"]["ready"]["threads"].as_u64().map(|t| t > 0), Some(true));
    let refused = |answer: serde_json::Value, said: &str| {
        assert_eq!(answer["errorType"], "voxmill.Invalid", "{answer}");
        assert!(answer["errorMessage"].as_str().unwrap().contains(said), "{answer}");
    };
    refused(ask("0.0.1", &inside, &[]), "was called by voxmill 0.0.1");
    for elsewhere in ["s3://elsewhere/out", "/tmp/out", "file:///tmp/out", "http://127.0.0.1/out"] {
        refused(ask(ours, elsewhere, &[]), "the function may not write to");
        refused(ask(ours, &inside, &[elsewhere]), "the function may not read");
    }
    let bucket = cloud.url.split('/').nth(2).unwrap();
    for sly in ["s3://@2/out", "s3://@/../other/out", "s3://@/%2e%2e/other", "s3://@/a/%252E%252e/b"] {
        let url = sly.replace('@', bucket);
        let answer = ask(ours, &url, &[]);
        assert_eq!(answer["errorType"], "voxmill.Invalid", "{url}: {answer}");
    }
    refused(cloud.invoke(&json!({ "hello": 1 })), "does not know");
}
