//! Every command, as a user types it.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;

use serde_json::{Value, json};
use voxel::Dtype;

use crate::program::{Desk, Image, blobs};

const STEPS: &str = "--steps 'median size=3 | threshold above=120 | label min_voxels=3'";

/// A desk with a small volume of blobs.
fn desk() -> Desk {
    let desk = Desk::new();
    Image::new([40, 50, 60], Dtype::U8, 16).write(&desk, "blobs.zarr", blobs);
    desk
}

#[test]
fn demo_imports_and_runs() {
    let desk = Desk::new();
    let demo = desk.run("demo").well();
    assert_eq!(demo.stdout, "");
    assert!(demo.stderr.contains("$ voxmill import voxmill-demo/bone.tif voxmill-demo/bone.zarr"), "{}", demo.stderr);
    assert!(demo.stderr.contains("objects    14"), "{}", demo.stderr);
    let answers = desk.answers("voxmill-demo/bone-voxmill");
    for file in ["labels.zarr/zarr.json", "objects.parquet", "histogram.json"] {
        assert!(answers.contains_key(file), "{file} is missing: {:?}", answers.keys());
    }
    // What it says it does is what it does.
    desk.run("run voxmill-demo/demo.toml -o again --quiet").well();
    assert_eq!(desk.answers("again"), answers);
    let again = desk.run("demo").well();
    assert!(again.stderr.contains("already done"), "{}", again.stderr);
}

#[test]
fn import_info_and_slice() {
    let desk = Desk::new();
    let mut npy = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    let header = "{'descr': '<u2', 'fortran_order': False, 'shape': (3, 4, 5), }";
    npy.extend(format!("{header:<117}\n").bytes());
    npy.extend((0..60u16).flat_map(u16::to_le_bytes));
    desk.write("scan.npy", npy);
    let import = "import scan.npy scan.zarr --voxel-size 2,0.5,0.5um --chunks 2 --shards none --codec zstd:5";
    let imported = desk.run(import).well();
    assert_eq!(imported.stdout, "");
    assert!(imported.stderr.contains("3 x 4 x 5 uint16"), "{}", imported.stderr);
    let info = desk.run("info scan.zarr --json").well().json();
    assert_eq!(info["shape"], json!([3, 4, 5]));
    assert_eq!(info["dtype"], json!("uint16"));
    let text = desk.run("info scan.zarr").well();
    assert!(text.stdout.contains("0.5 micrometer") && text.stdout.contains("uint16"), "{}", text.stdout);
    assert_eq!(text.stderr, "");
    desk.run(import).badly(2, "is there already").hints("--overwrite");
    desk.run(&format!("{import} --overwrite --quiet")).well();
    desk.run("slice scan.zarr --axis z --at 1 -o plane.png").well();
    assert!(std::fs::read(desk.path("plane.png")).unwrap().starts_with(b"\x89PNG"));
    desk.run("slice scan.zarr --axis z --at 3 -o plane.png").badly(2, "no plane 3 along z: the image has 0 to 2");
}

#[test]
fn a_job_is_a_file_or_a_line() {
    let desk = desk();
    desk.write(
        "job.toml",
        r#"
        input = "blobs.zarr"
        output = "toml"
        [[steps]]
        op = "median"
        size = 3
        [[steps]]
        op = "threshold"
        above = 120
        [[steps]]
        op = "label"
        min_voxels = 3
        "#,
    );
    let steps = json!([
        {"op": "median", "size": 3}, {"op": "threshold", "above": 120}, {"op": "label", "min_voxels": 3}
    ]);
    desk.write("job.json", json!({"input": "blobs.zarr", "output": "json", "steps": steps}).to_string());
    desk.run("run job.toml").well();
    desk.run("run job.json").well();
    desk.run(&format!("run blobs.zarr -o line {STEPS}")).well();
    desk.run("run job.toml -o overridden --steps 'median size=1'").well();
    let answers = desk.answers("toml");
    assert!(answers.len() > 3);
    assert_eq!(desk.answers("json"), answers);
    assert_eq!(desk.answers("line"), answers);
    assert!(desk.has("overridden/result.zarr/zarr.json") && !desk.has("overridden/labels.zarr"));
}

#[test]
fn flags_that_say_how_change_nothing_and_flags_that_say_what_do() {
    let desk = desk();
    let steps = "--steps 'median size=3 | threshold above=120 | label'";
    desk.run(&format!("run blobs.zarr -o plain {steps} --chunks 16 --shards none")).well();
    let how = "--block 32,16,16 --segment 1 --workers 1 --memory 300MiB";
    desk.run(&format!("run blobs.zarr -o how {steps} --chunks 16 --shards none {how}")).well();
    assert_eq!(desk.answers("how"), desk.answers("plain"));
    assert_eq!(desk.json("how/run.json")["block"], json!([32, 16, 16]));

    desk.run(&format!("run blobs.zarr -o what {steps} --chunks 8,16,16 --shards 2 --codec gzip:4 --region 4:30,:,10:"))
        .well();
    let array = desk.json("what/labels.zarr/0/zarr.json");
    assert_eq!(array["shape"], json!([26, 50, 50]));
    assert_eq!(array["chunk_grid"]["configuration"]["chunk_shape"], json!([16, 32, 32]));
    let sharding = &array["codecs"][0]["configuration"];
    assert_eq!(sharding["chunk_shape"], json!([8, 16, 16]));
    assert_eq!(sharding["codecs"][1]["name"], json!("gzip"));
}

#[test]
fn data_goes_to_stdout_and_talk_to_stderr() {
    let desk = desk();
    let run = desk.run(&format!("run blobs.zarr {STEPS}")).well();
    assert_eq!(run.stdout, "");
    assert!(run.stderr.contains("answers    "), "{}", run.stderr);
    // The output's name comes from the input's.
    assert!(desk.has("blobs-voxmill/labels.zarr/zarr.json"));

    let quiet = desk.run(&format!("run blobs.zarr -o quiet {STEPS} --quiet")).well();
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    let quiet = desk.run(&format!("run blobs.zarr -o quiet {STEPS} --quiet --json")).well();
    assert_eq!(quiet.stderr, "");
    assert!(quiet.json()["objects"].as_u64().unwrap() > 0);

    let json = desk.run(&format!("run blobs.zarr -o json {STEPS} --json")).well().json();
    let outputs: Vec<&str> = json["outputs"].as_array().unwrap().iter().map(|o| o.as_str().unwrap()).collect();
    assert_eq!(outputs, ["labels.zarr", "objects.parquet", "histogram.json", "run.json"]);
    assert!(outputs.iter().all(|o| desk.has(&format!("json/{o}"))));
}

#[test]
fn labels_go_into_the_input_and_are_listed() {
    let desk = desk();
    for (ome, list) in [("0.5", "zarr.json"), ("0.4", ".zattrs")] {
        let image = format!("image-{ome}/result.zarr");
        desk.run(&format!("run blobs.zarr -o image-{ome} --steps 'median size=1' --ome {ome}")).well();
        let job = format!(
            "run {image} --steps 'threshold above=120 | label save=cells' -o out-{ome} --ome {ome} --into-input"
        );
        let done = desk.run(&job).well();
        assert!(done.stderr.contains(&format!("{image}/labels/cells, listed in the input")), "{}", done.stderr);
        let (there, own) =
            (desk.files(&format!("{image}/labels/cells")), desk.files(&format!("out-{ome}/labels.zarr")));
        assert_eq!(there.keys().collect::<Vec<_>>(), own.keys().collect::<Vec<_>>());
        let voxels = |files: &std::collections::BTreeMap<String, Vec<u8>>| {
            let mut files = files.clone();
            files.retain(|name, _| name.contains('/'));
            files
        };
        assert!(voxels(&there) == voxels(&own));
        desk.run(&format!("info {image}/labels/cells")).well();
        // Again: nothing to do. Another job: another name.
        assert!(desk.run(&job).well().stderr.contains("already done"));
        let others =
            format!("run {image} --steps 'threshold above=150 | label' -o dense-{ome} --ome {ome} --into-input");
        desk.run(&others).well();
        let listed = desk.json(&format!("{image}/labels/{list}"));
        let listed = if ome == "0.5" { &listed["attributes"]["ome"]["labels"] } else { &listed["labels"] };
        assert_eq!(listed, &json!(["cells", format!("dense-{ome}")]));
        let taken =
            format!("run {image} --steps 'threshold above=150 | label save=cells' -o x-{ome} --ome {ome} --into-input");
        desk.run(&taken).badly(2, "cells is there already").hints("--overwrite");
        desk.run(&format!("{taken} --overwrite")).well();
        let other = if ome == "0.5" { "0.4" } else { "0.5" };
        desk.run(&format!("run {image} --steps label -o y --ome {other} --into-input"))
            .badly(2, "and the labels would be")
            .hints(&format!("--ome {ome}"));
    }
    desk.run("run blobs.zarr --steps label -o z --into-input").badly(2, "--into-input");
    desk.run("run image-0.5/result.zarr --steps 'median size=3' -o z --into-input")
        .badly(2, "the job has no label step");
    assert!(!desk.has("z") && !desk.has("y"));
}

#[test]
fn masks_and_intensities_are_of_the_level_that_is_read() {
    let desk = desk();
    desk.run("run blobs.zarr -o image --steps 'median size=1' --levels 2").well();
    desk.run("run image/result.zarr --level 1 -o cut --steps 'threshold above=90' --levels none").well();
    let steps = "--steps 'threshold above=60 | label'";
    // The mask has that shape and no levels; the intensities have levels.
    let beside = "--mask cut/result.zarr --intensity image/result.zarr";
    desk.run(&format!("run image/result.zarr --level 1 -o out {steps} {beside}")).well();
    desk.run(&format!("run image/result.zarr --level 1 -o alone {steps} --mask cut/result.zarr")).well();
    assert_eq!(desk.answers("out"), desk.answers("alone"));
    desk.run(&format!("run image/result.zarr -o other {steps} {beside}"))
        .badly(2, "`mask`")
        .hints("give an array of the input's shape");
}

#[test]
fn a_job_that_is_done_is_left_alone() {
    let desk = desk();
    let job = format!("run blobs.zarr -o out {STEPS}");
    desk.run(&job).well();
    let times = || {
        let mut names: Vec<String> = desk.files("out").into_keys().filter(|n| !n.ends_with("/lock")).collect();
        names.sort();
        names
            .into_iter()
            .map(|n| (std::fs::metadata(desk.path("out").join(&n)).unwrap().modified().unwrap(), n))
            .collect::<Vec<_>>()
    };
    let before = times();
    let again = desk.run(&job).well();
    assert!(again.stderr.contains("already done"), "{}", again.stderr);
    // How it is computed is not part of the question.
    desk.run(&format!("{job} --memory 500MiB --workers 1 --block 128")).well();
    assert_eq!(times(), before);

    let another = "run blobs.zarr -o out --steps 'median size=5'";
    desk.run(another).badly(2, "holds the answers of another job").hints("--overwrite");
    assert_eq!(times(), before);
    desk.run(&format!("{another} --overwrite")).well();
    assert!(desk.has("out/result.zarr/zarr.json") && !desk.has("out/labels.zarr") && !desk.has("out/objects.parquet"));
}

#[test]
fn what_others_left_in_an_output_is_not_overwritten() {
    let desk = desk();
    desk.write("out/histogram.json", "mine");
    desk.run(&format!("run blobs.zarr -o out {STEPS}")).badly(2, "is there already").hints("--overwrite");
    assert_eq!(std::fs::read(desk.path("out/histogram.json")).unwrap(), b"mine");
    // A folder with other things in it is fine.
    desk.write("notes/readme.txt", "mine");
    desk.run(&format!("run blobs.zarr -o notes {STEPS}")).well();
    desk.run("run blobs.zarr -o notes --steps 'median size=5' --overwrite").well();
    assert_eq!(std::fs::read(desk.path("notes/readme.txt")).unwrap(), b"mine");
}

#[test]
fn plan_shows_stages_and_memory_and_touches_nothing() {
    let desk = desk();
    let text = desk.run(&format!("plan blobs.zarr {STEPS}")).well();
    assert_eq!(text.stderr, "");
    for word in ["input ", "blocks ", "halo 1 x 1 x 1", "memory     at most", "median", "relabel", "publish"] {
        assert!(text.stdout.contains(word), "{word} is missing:\n{}", text.stdout);
    }
    let plan = desk.run(&format!("plan blobs.zarr {STEPS} --json --chunks 16 --shards none --block 16")).well().json();
    assert_eq!(plan["blocks"], json!(3 * 4 * 4));
    assert_eq!(plan["halo"], json!([1, 1, 1]));
    let most = plan["stages"].as_array().unwrap().iter().map(|s| s["memory_bytes"].as_u64().unwrap()).max();
    assert_eq!(plan["memory_bytes"].as_u64(), most);
    assert_eq!(plan["memory_limit_bytes"], json!(1u64 << 30));
    assert!(!desk.has("blobs-voxmill"));
}

#[test]
fn plan_says_what_a_run_would_ask_for_and_cost() {
    let desk = desk();
    let plan = |flags: &str| desk.run(&format!("plan blobs.zarr {STEPS} --chunks 16 --shards none {flags}"));
    let here = plan("").well().stdout;
    assert!(here.contains("price      none") && !here.contains("requests "), "{here}");
    let there = plan("--executor lambda --workers 4 --price-region eu-west-1").well().stdout;
    for word in
        ["tasks ", "requests ", "price      $", "eu-west-1", "invocations", "GB-seconds", "GB of logs", "--calibrate"]
    {
        assert!(there.contains(word), "{word} is missing:\n{there}");
    }
    let json = |flags: &str| {
        plan(&format!("--executor lambda --workers 4 --price-region us-east-1 --json {flags}")).well().json()
    };
    let usual = json("");
    let usd = |plan: &Value| [&plan["cost_usd"]["low"], &plan["cost_usd"]["high"]].map(|usd| usd.as_f64().unwrap());
    let [low, high] = usd(&usual);
    assert!(0.0 < low && low < high && high < 1.0, "{low} to {high}");
    assert!(usd(&json("--price gb-second=1"))[0] > 100.0 * low);
    assert_eq!(usual["price"]["dated"], json!("2026-09"));
    let puts = &usual["stages"][0]["requests"]["output"]["puts"];
    assert!(puts["low"].as_u64().unwrap() > 0, "{puts}");
    for (flags, message) in [
        ("--price gold=1", "--price takes KEY=USD"),
        ("--price-region mars-1", "the price table has no region"),
        ("--max-usd=-3", "--max-usd is an amount of USD"),
    ] {
        plan(flags).badly(2, message);
    }
    let sampled = plan("--executor lambda --calibrate").well().stdout;
    assert!(sampled.contains("measured here: ") && sampled.contains("of a core"), "{sampled}");
    assert!(!desk.has("blobs-voxmill"));
}

#[test]
fn plan_draws_its_stages() {
    let desk = desk();
    let dot = desk.run(&format!("plan blobs.zarr {STEPS} --dot")).well().stdout;
    assert!(dot.starts_with("digraph plan {") && dot.trim_end().ends_with('}'), "{dot}");
    for word in ["publish", "relabel", "\"labels.zarr\"", "\"objects.parquet\"", "stage0 -> stage1;"] {
        assert!(dot.contains(word), "{word} is missing:\n{dot}");
    }
}

#[test]
fn a_run_on_one_machine_costs_nothing_and_says_so() {
    let desk = desk();
    desk.run(&format!("run blobs.zarr {STEPS} -o out --max-usd 0")).well();
    let report = desk.json("out/run.json");
    assert_eq!((&report["cost_usd"], &report["actual"]["invocations"]), (&json!(0.0), &json!(0)));
    assert!(report["estimate"]["invocations"]["low"].as_u64().unwrap() > 5);
    let status = desk.run("status out --json").well().json();
    assert_eq!(status.get("price"), None);
}

#[test]
fn schema_knows_every_key_of_the_examples() {
    let desk = Desk::new();
    let schema = desk.run("schema").well().json();
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    let jobs: Vec<_> = std::fs::read_dir(examples).unwrap().map(|e| e.unwrap().path()).collect();
    let jobs: Vec<_> = jobs.into_iter().filter(|p| p.extension().is_some_and(|e| e == "toml")).collect();
    assert!(!jobs.is_empty());
    for job in jobs {
        let text = std::fs::read_to_string(&job).unwrap();
        let job: Value = toml::from_str(&text).unwrap();
        assert_known(&schema, &schema, &job);
    }
}

/// Asserts that each key of `value` is a property in `schema`; of alternatives, one must have all of them.
fn assert_known(root: &Value, schema: &Value, value: &Value) {
    let unknown = unknown_keys(root, schema, value);
    assert!(unknown.is_empty(), "the schema doesn't know {unknown:?}");
}

fn unknown_keys(root: &Value, schema: &Value, value: &Value) -> BTreeSet<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        return unknown_keys(root, root.pointer(reference.trim_start_matches('#')).unwrap(), value);
    }
    for alternatives in ["oneOf", "anyOf"] {
        if let Some(schemas) = schema[alternatives].as_array() {
            let mut outcomes: Vec<_> = schemas
                .iter()
                .filter(|s| s["properties"]["op"]["const"].is_null() || s["properties"]["op"]["const"] == value["op"])
                .map(|s| unknown_keys(root, s, value))
                .collect();
            outcomes.sort_by_key(BTreeSet::len);
            return outcomes.into_iter().next().unwrap_or_else(|| BTreeSet::from([value.to_string()]));
        }
    }
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(key, value)| match schema["properties"].get(key) {
                Some(schema) => unknown_keys(root, schema, value),
                None => BTreeSet::from([key.clone()]),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(|item| unknown_keys(root, &schema["items"], item)).collect(),
        _ => BTreeSet::new(),
    }
}

/// Serves a folder over HTTP, whole files only, and says where.
fn served(folder: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let mut lines = BufReader::new(connection.try_clone().unwrap()).lines();
            let request = lines.next().and_then(Result::ok).unwrap_or_default();
            lines.take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty())).for_each(drop);
            let path = request.split(' ').nth(1).unwrap_or_default();
            let (status, body) = match std::fs::read(folder.join(path.trim_start_matches('/'))) {
                Ok(body) => (200, body),
                Err(_) => (404, Vec::new()),
            };
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = connection
                .write_all(head.as_bytes())
                .and_then(|()| if request.starts_with("HEAD") { Ok(()) } else { connection.write_all(&body) });
        }
    });
    url
}

#[test]
fn a_web_server_is_read_like_a_disk_and_never_written() {
    let desk = desk();
    let url = served(desk.path(""));
    desk.run(&format!("run {url}/blobs.zarr -o web {STEPS} --quiet")).well();
    desk.run(&format!("run blobs.zarr -o disk {STEPS} --quiet")).well();
    assert_eq!(desk.answers("web"), desk.answers("disk"));
    assert_eq!(desk.run(&format!("info {url}/blobs.zarr/ --json")).well().json()["shape"], json!([40, 50, 60]));
    desk.run(&format!("info {url}/absent.zarr")).badly(2, "nothing at http://");
    desk.run(&format!("run blobs.zarr -o {url}/out {STEPS}")).badly(2, "http is read only").hints("a path on a disk");
}

#[test]
fn export_writes_a_stack_that_import_takes_back() {
    let desk = desk();
    let exported = desk.run("export blobs.zarr out.tif --compress deflate").well();
    assert_eq!(exported.stdout, "");
    assert!(exported.stderr.contains("out.tif: 40 x 50 x 60 uint8"), "{}", exported.stderr);
    desk.run("export blobs.zarr out.tif").badly(2, "is there already").hints("--overwrite");
    desk.run("import out.tif back.zarr --quiet").well();
    // A measurement tells whether the voxels are the same.
    desk.run("run blobs.zarr -o one --quiet").well();
    desk.run("run back.zarr -o two --quiet").well();
    assert_eq!(desk.json("one/histogram.json"), desk.json("two/histogram.json"));
    let part = desk.run("export blobs.zarr part.tif --region 0:4,:,-8: --overwrite").well();
    assert!(part.stderr.contains("4 x 50 x 8 uint8"), "{}", part.stderr);
    desk.run("export blobs.zarr part.tif --region 0:4 --overwrite").badly(2, "--region: takes three slices");
    desk.run("export nowhere.zarr new.tif").badly(2, "nothing at");
    assert!(!desk.has("new.tif"));
}

#[test]
fn table_shows_some_rows_and_writes_all() {
    let desk = desk();
    desk.run(&format!("run blobs.zarr -o out {STEPS} --quiet")).well();
    let objects = desk
        .run("run blobs.zarr -o out --json --quiet --steps 'median size=3 | threshold above=120 | label min_voxels=3'");
    let count = objects.well().json()["objects"].as_u64().unwrap() as usize;
    let csv = desk.run("table out --csv").well().stdout;
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), count + 1);
    assert!(lines[0].starts_with("label,voxels,centroid_z,"), "{}", lines[0]);
    assert!(lines[1].starts_with("1,"), "{}", lines[1]);
    assert!(lines.iter().all(|line| line.matches(',').count() == lines[0].matches(',').count()));
    desk.run("table out/objects.parquet --csv -o rows.csv").well();
    assert_eq!(std::fs::read_to_string(desk.path("rows.csv")).unwrap(), csv);
    let json = desk.run("table out --json").well().stdout;
    let first: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!((json.lines().count(), &first["label"]), (count, &json!(1)));
    let head = desk.run("table out").well().stdout;
    assert!(head.contains(&format!("of {count} rows")), "{head}");
    desk.run("table out --name contacts").badly(2, "there is no table contacts.parquet").hints("--name objects");
    desk.run("table nowhere").badly(2, "there is no table objects.parquet").hints("voxmill status");
}

#[test]
fn slices_take_a_window_and_label_colours() {
    let desk = desk();
    let middle = desk.run("slice blobs.zarr -o plane.png --window 10,200").well();
    assert!(middle.stderr.contains("60 x 50 pixels, black is 10, white is 200"), "{}", middle.stderr);
    let labels = desk.run("slice blobs.zarr --axis x -o plane.png --labels").well();
    assert!(labels.stderr.contains("a colour for each label"), "{}", labels.stderr);
    desk.run("slice blobs.zarr -o plane.png --window 9").badly(2, "is no window").hints("--window 0,4095");
}

#[test]
fn completions_are_scripts_for_shells() {
    let desk = Desk::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = desk.run(&format!("completions {shell}")).well().stdout;
        assert!(script.contains("voxmill") && script.contains("export"), "{shell}: {script}");
    }
    desk.run("completions tcsh").badly(2, "invalid value");
}

#[test]
fn help_explains_commands_and_steps() {
    let desk = Desk::new();
    let steps = desk.run("help steps").well();
    for step in ["rescale", "gaussian", "median", "threshold", "erode", "label", "objects"] {
        assert!(steps.stdout.contains(step), "{step} is missing:\n{}", steps.stdout);
    }
    assert!(steps.stdout.contains("scipy"), "{}", steps.stdout);
    assert!(desk.run("help run").well().stdout.contains("--memory"));
    assert!(desk.run("help").well().stdout.contains("Exit codes"));
    assert!(desk.run("--version").well().stdout.starts_with("voxmill "));
    desk.run("help stepz").badly(2, "there is no command `stepz`").hints("voxmill help");
    desk.run("frobnicate").badly(2, "unrecognized subcommand");
}

#[test]
fn status_and_clean_of_a_finished_run() {
    let desk = desk();
    desk.run(&format!("run blobs.zarr -o out {STEPS}")).well();
    desk.write("out/notes.txt", "mine");
    let answers = desk.answers("out");
    let status = desk.run("status out").well();
    assert!(status.stdout.starts_with("finished\n"), "{}", status.stdout);
    assert_eq!(desk.run("status out --json").well().json()["finished"], json!(true));
    let cleaned = desk.run("clean out").well();
    assert!(cleaned.stderr.contains("its answers stay"), "{}", cleaned.stderr);
    assert_eq!(desk.answers("out"), answers);
    desk.run("status out").badly(2, "there is no run in").hints("-o");
    desk.run("clean out").badly(2, "there is no run in");
    desk.run("status nowhere").badly(2, "there is no run in");
}
