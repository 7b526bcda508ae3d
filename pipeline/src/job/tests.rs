#![allow(clippy::unwrap_used)]

use super::*;
use voxel::Extent;

const FOAM: &str = r#"
input  = "s3://lab/foam.zarr"
output = "s3://lab/foam-bubbles"

[[steps]]
op = "rescale"
divide = 255
invert = true                        # v -> 1 - v, after the rest
[[steps]]
op = "gaussian"
sigma = [3, 6, 6]                    # z,y,x in voxels, or one number
[[steps]]
op = "threshold"
above = 0.9
[[steps]]
op = "erode"
ball = 12
[[steps]]
op = "label"
connectivity = 26
"#;

const FOAM_LINE: &str =
    "rescale divide=255 invert | gaussian sigma=3,6,6 | threshold above=0.9 | erode ball=12 | label connectivity=26";

fn toml_error(text: &str) -> (String, String) {
    let error = Job::from_toml(text).unwrap_err();
    assert_eq!(error.kind, crate::Kind::Invalid);
    (error.message, error.hint.unwrap_or_default())
}

#[test]
fn toml_json_and_one_line_say_the_same() {
    let job = Job::from_toml(FOAM).unwrap();
    assert_eq!(job.input, "s3://lab/foam.zarr");
    assert_eq!(job.output.as_deref(), Some("s3://lab/foam-bubbles"));
    assert_eq!(job.steps, steps_from_line(FOAM_LINE).unwrap());
    assert_eq!(job.write, Write::default());
    let json = serde_json::to_string(&job).unwrap();
    assert_eq!(Job::from_json(&json).unwrap(), job);
    assert_eq!(serde_json::from_str::<Job>(&json).unwrap(), job, "as on the wire");
}

#[test]
fn every_key_is_read() {
    let job = Job::from_toml(
        r#"
        input = "a.zarr"
        level = 1
        channel = 2
        time = 3
        series = 4
        region = ["0:100", ":", "-64:"]
        steps = [{ op = "threshold", between = [-inf, 3] }]
        [write]
        chunks = [32, 64, 64]
        shards = "none"
        codec = "zstd:3"
        levels = 3
        ome = "0.4"
        "#,
    )
    .unwrap();
    assert_eq!((job.level, job.channel, job.time, job.series), (1, Some(2), Some(3), Some(4)));
    let extent = Extent { shape: [200, 50, 100], planar: false };
    let region = job.region.as_ref().unwrap().resolve(&extent).unwrap();
    assert_eq!((region.start, region.end), ([0, 0, 36], [100, 50, 100]));
    assert_eq!(job.steps, steps_from_line("threshold between=-inf,3").unwrap());
    let write = Write {
        chunks: PerAxis::Each(vec![32, 64, 64]),
        shards: Shards::None,
        codec: Some("zstd:3".to_owned()),
        levels: Levels::Count(3),
        ome: OmeVersion::V04,
    };
    assert_eq!(job.write, write);
    assert_eq!("1,4,4".parse(), Ok(Shards::Chunks(PerAxis::Each(vec![1, 4, 4]))));
    assert_eq!("none".parse(), Ok(Shards::None));
}

#[test]
fn toml_errors_name_line_and_key() {
    let cases = [
        ("inptu = \"a\"", "line 1: the job has no key `inptu`", "did you mean `input`?"),
        ("level = 1", "the job needs `input`", ""),
        ("input = 3", "line 1: `input` of the job takes text, but got 3", ""),
        ("input = \"\"", "line 1: `input` is empty, but must be the URL or path of a Zarr array", ""),
        (
            "input = \"a\"\nsteps = \"label\"",
            "line 2: `steps` takes a list of steps, but got \"label\"",
            "begin each step with [[steps]] in TOML, or {\"op\": ...} in JSON",
        ),
        (
            "input = \"a\"\n[[steps]]\nop = \"label\"\n[[steps]]\nop = \"gaussian\"\nsigm = 3\n",
            "line 6: step 2 (gaussian) has no parameter `sigm`",
            "did you mean `sigma`?",
        ),
        (
            "input = \"a\"\n[[steps]]\nop = \"label\"\n[[steps]]\nop = \"gaussian\"\n",
            "line 4: step 2 (gaussian) needs `sigma`",
            "",
        ),
        (
            "input = \"a\"\n[[steps]]\nop = \"gaussian\"\n# wide\nsigma = 1000\n",
            "line 5: step 1 (gaussian): `sigma` 1000 with `truncate` 4 makes a kernel of radius 4000 voxels, and the limit is 1024",
            "smooth a coarser `level` of the image instead",
        ),
        (
            "input = \"a\"\n[[steps]]\nsigma = 3\n",
            "line 2: step 1 needs an `op`",
            "the ops are rescale, cast, clip, gaussian, median, mean, minimum, maximum, threshold, erode, dilate, open, close, fill_holes, label, objects",
        ),
        (
            "input = \"a\"\n[[steps]]\nop = \"label\"\nmin_voxels = -3\n",
            "line 4: `min_voxels` of step 1 (label) takes a whole number, 0 or more, but got -3",
            "",
        ),
        ("input = \"a\"\n[write]\nchunk = 3\n", "line 3: [write] has no key `chunk`", "did you mean `chunks`?"),
        ("input = \"a\"\n[write]\nchunks = 0\n", "line 3: `chunks` is 0, but must be from 1 to 65536", ""),
        (
            "input = \"a\"\n[write]\nshards = \"some\"\n",
            "line 3: `shards` of [write] takes a number or a list of numbers, one for each axis, or \"none\", but got \"some\"",
            "",
        ),
        (
            "input = \"a\"\n[write]\nlevels = \"some\"\n",
            "line 3: `levels` of [write] takes \"auto\", \"none\", or the number of levels, 1 to 64, but got \"some\"",
            "",
        ),
        (
            "input = \"a\"\n[write]\nlevels = 0\n",
            "line 3: `levels` of [write] takes \"auto\", \"none\", or the number of levels, 1 to 64, but got 0",
            "",
        ),
        (
            "input = \"a\"\n[write]\nome = 0.3\n",
            "line 3: `ome` of [write] takes the version of OME-Zarr, \"0.5\" or \"0.4\", but got 0.3",
            "",
        ),
        (
            "input = \"a\"\n[write]\nome = 0.4\nshards = 4\n",
            "line 4: `shards` are not part of OME-Zarr 0.4, which is Zarr v2",
            "write shards = \"none\", or ome = \"0.5\"",
        ),
        ("input = \"a\"\nwrite = 3\n", "line 2: `write` takes a table of keys, but got 3", ""),
        (
            "input = \"a\"\nregion = \"0:10:2,:,:\"\n",
            "line 2: `region` of the job takes slices without a step, and `0:10:2` has one, but got \"0:10:2,:,:\"",
            "",
        ),
        (
            "input = \"a\"\nlevel = \"x\"\n",
            "line 2: `level` of the job takes a whole number, 0 or more, but got \"x\"",
            "",
        ),
    ];
    for (text, message, hint) in cases {
        assert_eq!(toml_error(text), (message.to_owned(), hint.to_owned()), "{text}");
    }
    let (message, _) = toml_error("input = \"a\"\nlevel 3\n");
    assert!(message.starts_with("line 2: not TOML: "), "{message}");
    let (message, _) = toml_error("input = \"a\"\nlevel = 1\nlevel = 2\n");
    assert!(message.starts_with("line 3: not TOML: duplicate key"), "{message}");
}

#[test]
fn json_errors_name_the_key_or_the_place() {
    let message = |text: &str| Job::from_json(text).unwrap_err().message;
    assert_eq!(
        message(r#"{"input": "a", "steps": [{"op": "erode"}]}"#),
        "step 1 (erode) needs one of `ball`, `box` and `cross`"
    );
    assert_eq!(message("[]"), "a job is a table of keys, beginning with `input`");
    assert_eq!(message("{\n  \"input\": }"), "not JSON: expected value at line 2 column 12");
    assert_eq!(message(r#"{"input": "a", "steps": [3]}"#), "step 1 takes a table with an `op`, but got 3");
}

#[test]
fn a_job_file_is_read_by_its_name() {
    assert_eq!(Job::from_path_text("foam.toml", FOAM).unwrap(), Job::from_toml(FOAM).unwrap());
    assert_eq!(Job::from_path_text("dir/a.JSON", r#"{"input": "a"}"#).unwrap(), Job::new("a"));
    let error = Job::from_path_text("foam.toml", "inputs = 3").unwrap_err();
    assert_eq!(error.message, "foam.toml: line 1: the job has no key `inputs`");
}

#[test]
fn equal_meanings_have_one_canonical_text() {
    let same = [
        "input = 'a'\nsteps = [{ op = 'gaussian', sigma = 3 }, { op = 'threshold', above = 0 }, { op = 'label' }]",
        "input = 'a'\nlevel = 0\nsteps = [{ sigma = [3, 3.0, 3], op = 'gaussian', truncate = 4, mode = 'reflect' }, \
         { op = 'threshold', above = -0.0, invert = false }, { op = 'label', connectivity = 6, min_voxels = 0 }]\n\
         [write]\nchunks = [128, 128, 128]\nshards = 2",
        "input = 'a'\nregion = ':,0:,:'\nsteps = [{ op = 'gaussian', sigma = [3, 3] }, { op = 'threshold', above = 0.0 }, \
         { op = 'label', connectivity = 4 }]",
    ];
    let canonical: Vec<_> = same.iter().map(|text| Job::from_toml(text).unwrap().canonical_json()).collect();
    assert_eq!(
        canonical[0],
        r#"{"input":"a","steps":[{"op":"gaussian","sigma":3.0,"truncate":4.0,"mode":"reflect"},{"op":"threshold","above":0.0,"invert":false},{"op":"label","connectivity":6,"min_voxels":1,"clear_border":false,"contacts":"none"}],"level":0,"histogram":"input","write":{"chunks":128,"shards":2,"levels":"auto","ome":"0.5"}}"#
    );
    assert_eq!(canonical[1], canonical[0]);
    assert_eq!(canonical[2], canonical[0]);
    let constant = |text: &str| {
        let mut job = Job::new("a");
        job.steps = steps_from_line(text).unwrap();
        job.canonical_json()
    };
    assert_eq!(constant("median size=3 mode=constant"), constant("median size=3,3,3 mode=constant value=0"));
    assert_ne!(constant("median size=3 mode=constant"), constant("median size=3"));
    let parsed = Job::from_json(&canonical[0]).unwrap();
    assert_eq!(parsed.canonical_json(), canonical[0], "the canonical text is a job, and canonical");
}

#[test]
fn levels_and_versions_have_one_canonical_text() {
    let canonical = |write: &str| Job::from_toml(&format!("input = 'a'\n[write]\n{write}")).unwrap().canonical_json();
    assert_eq!(canonical("levels = 1"), canonical("levels = 'none'"));
    assert_eq!(canonical("ome = 0.4"), canonical("ome = '0.4'\nshards = 'none'"));
    assert_eq!(canonical("ome = 0.5\nlevels = 'auto'"), Job::new("a").canonical_json());
    assert_ne!(canonical("levels = 2"), canonical("levels = 3"));
    for text in ["auto", "none", "7"] {
        assert_eq!(text.parse::<Levels>().unwrap().to_string(), text);
    }
    let volume = Extent { shape: [300; 3], planar: false };
    let write = Write { ome: OmeVersion::V04, ..Write::default() };
    assert_eq!(write.shapes(&volume).unwrap(), ([128; 3], None));
}

#[test]
fn flags_are_checked_like_files() {
    let mut job = Job::new("a");
    job.write.chunks = PerAxis::All(0);
    assert_eq!(job.validate().unwrap_err().message, "`chunks` is 0, but must be from 1 to 65536");
    job.write.chunks = PerAxis::Each(vec![1, 2, 3, 4]);
    assert_eq!(
        job.write.validate().unwrap_err().message,
        "`chunks` is a list of 4, but must be one number, z,y,x, or y,x for 2-D images"
    );
}

#[test]
fn chunks_and_shards_are_clipped_to_the_image() {
    let volume = Extent { shape: [100, 300, 1000], planar: false };
    assert_eq!(Write::default().shapes(&volume).unwrap(), ([100, 128, 128], Some([100, 256, 256])));
    let planar = Extent { shape: [1, 300, 100], planar: true };
    assert_eq!(Write::default().shapes(&planar).unwrap(), ([1, 128, 100], Some([1, 256, 100])));
    let write = Write { chunks: PerAxis::Each(vec![10, 20]), shards: Shards::None, ..Write::default() };
    assert_eq!(write.shapes(&planar).unwrap(), ([1, 10, 20], None));
    assert_eq!(
        write.shapes(&volume).unwrap_err().message,
        "`chunks`: a list of 2 was given, but the image has three axes (z, y, x)"
    );
}

#[test]
fn the_schema_documents_every_key() {
    let schema = schema();
    assert_eq!(schema["required"], serde_json::json!(["input"]));
    assert_eq!(schema["additionalProperties"], false);
    for (key, property) in schema["properties"].as_object().unwrap() {
        assert!(property["description"].is_string(), "{key} is documented");
    }
    let ops = schema["$defs"]["Step"]["oneOf"].as_array().unwrap();
    assert_eq!(ops.len(), crate::step::op_names().len());
    for op in ops {
        assert_eq!(op["additionalProperties"], false, "{op}");
    }
}
