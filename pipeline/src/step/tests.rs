#![allow(clippy::unwrap_used)]

use super::*;
use crate::job::steps_from_line;

fn step(line: &str) -> Step {
    steps_from_line(line).unwrap().remove(0).step
}

fn bare(steps: &[JobStep]) -> Vec<&Step> {
    steps.iter().map(|entry| &entry.step).collect()
}

#[test]
fn defaults_are_the_documented_ones() {
    assert_eq!(step("rescale"), Step::Rescale(Rescale { multiply: 1.0, divide: 1.0, add: 0.0, invert: false }),);
    let expected =
        Gaussian { sigma: PerAxis::Each(vec![3.0, 6.0, 6.5]), truncate: 4.0, mode: Mode::Reflect, value: None };
    assert_eq!(step("gaussian sigma=3,6,6.5"), Step::Gaussian(expected));
    assert_eq!(
        step("median size=3 mode=constant value=nan"),
        Step::Median(Window { size: PerAxis::All(3), mode: Mode::Constant, value: Some(Number(f64::NAN)) }),
    );
    let shaped = |shape| Morphology { shape, outside: Outside::Ignore };
    assert_eq!(step("erode ball=12"), Step::Erode(shaped(Shape::Ball(PerAxis::All(12.0)))));
    assert_eq!(step("open box=1,0,2"), Step::Open(shaped(Shape::Box(PerAxis::Each(vec![1, 0, 2])))));
    assert_eq!(step("close cross=3"), Step::Close(shaped(Shape::Cross(3))));
    let window = |size| Window { size: PerAxis::All(size), mode: Mode::Reflect, value: None };
    assert_eq!(step("mean size=5"), Step::Mean(window(5)));
    assert_eq!(step("minimum size=3"), Step::Minimum(window(3)));
    assert_eq!(step("maximum size=7"), Step::Maximum(window(7)));
    assert_eq!(step("clip high=inf"), Step::Clip(Clip { low: None, high: Some(Number(f64::INFINITY)) }));
    assert_eq!(
        step("label"),
        Step::Label(Label {
            connectivity: Connectivity::Six,
            min_voxels: 1,
            max_voxels: None,
            clear_border: false,
            contacts: Contacts(None),
        }),
    );
    assert_eq!(step("objects"), Step::Objects(Objects { contacts: Contacts(None) }));
    assert_eq!(step("cast dtype=uint16"), Step::Cast(Cast { dtype: Dtype::U16 }));
}

#[test]
fn a_threshold_has_one_rule() {
    let rule = |line: &str| match step(line) {
        Step::Threshold(threshold) => threshold.rule,
        other => panic!("{other:?}"),
    };
    assert_eq!(rule("threshold above=-inf"), Rule::Above(f64::NEG_INFINITY));
    assert_eq!(rule("threshold below=1e-3"), Rule::Below(0.001));
    assert_eq!(rule("threshold between=-5,inf"), Rule::Between(-5.0, f64::INFINITY));
    assert_eq!(rule("threshold method=otsu invert"), Rule::Otsu);
    assert_eq!(rule("threshold percentile=99.5"), Rule::Percentile(99.5));
    let message = |line: &str| steps_from_line(line).unwrap_err().message;
    assert!(
        message("threshold invert")
            .starts_with("step 1 (threshold) needs one of `above`, `below`, `between`, `method` and `percentile`\n")
    );
    assert!(message("threshold above=1 below=2").starts_with("step 1 (threshold) takes only one of"));
}

#[test]
fn an_element_has_one_shape() {
    let message = |line: &str| steps_from_line(line).unwrap_err().message;
    assert!(message("erode").starts_with("step 1 (erode) needs one of `ball`, `box` and `cross`\n"));
    assert!(
        message("close ball=1 cross=1").starts_with("step 1 (close) takes only one of `ball`, `box` and `cross`\n")
    );
    assert!(message("open cross=1,2,3").starts_with("`cross` of step 1 (open) takes "));
    assert!(message("open box=1.5").starts_with("`box` of step 1 (open) takes "));
}

#[test]
fn every_step_comes_back_from_json_as_it_went() {
    let line = "rescale multiply=2 add=-1 | clip low=-inf high=3 | mean size=3 | minimum size=3,3,5 mode=nearest | \
                maximum size=5 mode=constant value=inf | gaussian sigma=0.5 mode=constant value=-inf | median size=3,5,5 | \
                threshold between=0,inf invert | erode ball=1.5 outside=zero | dilate box=2,0,1 | open cross=1 | \
                close ball=1,2.5,3 | fill_holes connectivity=26 save=filled | \
                label connectivity=18 min_voxels=10 max_voxels=99 clear_border contacts=26 save=cells | \
                objects contacts=none | cast dtype=float64";
    let steps = steps_from_line(line).unwrap();
    let json = serde_json::to_string(&steps).unwrap();
    assert_eq!(serde_json::from_str::<Vec<JobStep>>(&json).unwrap(), steps);
    assert_eq!(steps_from_line(&json).unwrap(), steps, "the JSON array is taken in place of the line");
    let named: Vec<_> = steps.iter().map(|entry| entry.step.op()).collect();
    assert_eq!(named.len(), op_names().len());
    assert!(named.iter().all(|op| op_names().iter().any(|known| known == op)), "the schema knows every op");
}

#[test]
fn absurd_numbers_are_refused_by_name() {
    let cases = [
        ("rescale divide=0", "`divide` is 0, and nothing can be divided by it"),
        ("gaussian sigma=-1", "`sigma` is -1, but must be 0 or more"),
        (
            "gaussian sigma=1,2,300",
            "`sigma` 300 with `truncate` 4 makes a kernel of radius 1200 voxels, and the limit is 1024",
        ),
        ("gaussian sigma=1 truncate=-1", "`truncate` is -1, but must be 0 or more"),
        ("gaussian sigma=1,2,3,4", "`sigma` is a list of 4, but must be one number, z,y,x, or y,x for 2-D images"),
        ("gaussian sigma=1 value=3", "`value` is read only with `mode` = constant"),
        ("median size=4", "`size` is 4, but must be an odd number from 1 to 255"),
        ("median size=3,3,257", "`size` is 257, but must be an odd number from 1 to 255"),
        ("threshold above=nan", "`above` is NaN, which no value is above"),
        ("threshold between=3,2", "`between` is 3,2, but its first number must not be the larger one"),
        ("threshold between=nan,2", "`between` is NaN,2, but its first number must not be the larger one"),
        ("threshold percentile=101", "`percentile` is 101, but must be from 0 to 100"),
        ("mean size=0", "`size` is 0, but must be an odd number from 1 to 255"),
        ("minimum size=3 value=1", "`value` is read only with `mode` = constant"),
        ("clip", "`low`, `high` or both must be given"),
        ("clip low=3 high=2", "`low` is 3 and `high` is 2, but must not be the smaller one"),
        ("clip high=nan", "`high` is NaN, which bounds nothing"),
        ("erode box=0,0,0", "`box` is 0, but must be a radius above 0 and up to 1024 voxels"),
        ("open cross=1025", "`cross` is 1025, but must be a radius above 0 and up to 1024 voxels"),
        ("dilate ball=1,-2,3", "`ball` is -2, but must be a radius above 0 and up to 1024 voxels"),
        ("dilate ball=1,2,3,4", "`ball` is a list of 4, but must be one number, z,y,x, or y,x for 2-D images"),
        ("erode ball=0", "`ball` is 0, but must be a radius above 0 and up to 1024 voxels"),
        ("label min_voxels=5 max_voxels=4", "`max_voxels` is 4, but `min_voxels` is 5: no object is left"),
        ("label save=../up", "`save` is \"../up\", which can't be the name of an output"),
        ("cast dtype=uint8 save=labels", "`save` is labels, a name that outputs of the run itself have"),
        ("close ball=1025", "`ball` is 1025, but must be a radius above 0 and up to 1024 voxels"),
    ];
    for (line, expected) in cases {
        let op = line.split(' ').next().unwrap();
        let message = steps_from_line(line).unwrap_err().message;
        assert_eq!(message.lines().next().unwrap(), format!("step 1 ({op}): {expected}"));
    }
    let nan =
        Step::Gaussian(Gaussian { sigma: PerAxis::All(f64::NAN), truncate: 4.0, mode: Mode::Reflect, value: None });
    assert_eq!(nan.validate().unwrap_err().message, "`sigma` is NaN, but must be a finite number");
    let limits = "gaussian sigma=0 | gaussian sigma=255.9 | median size=1 | median size=255 | erode ball=1024 | erode ball=0,0,1024 | mean size=255 | \
                  threshold percentile=0 | threshold percentile=100 | threshold between=2,2";
    assert_eq!(steps_from_line(limits).unwrap().len(), 10);
}

#[test]
fn types_flow_from_step_to_step() {
    let steps = steps_from_line(
        "median size=3 | rescale | threshold above=0 | erode ball=1 | label | objects | cast dtype=int8",
    )
    .unwrap();
    let dtypes = output_dtypes(&bare(&steps), U16).unwrap();
    use Dtype::*;
    assert_eq!(dtypes, [U16, F32, Bool, Bool, U32, U32, I8]);
    assert_eq!(output_dtypes(&bare(&steps[1..2]), F64).unwrap(), [F64]);
    assert_eq!(output_dtypes(&[], F64).unwrap(), []);
}

#[test]
fn a_type_that_does_not_fit_names_both_steps() {
    let error = |line: &str, input| output_dtypes(&bare(&steps_from_line(line).unwrap()), input).unwrap_err();
    let floats = error("rescale | gaussian sigma=1 | erode ball=1", Dtype::U8);
    assert_eq!(floats.message, "step 3 (erode) takes bool or integers, but gets float32 from step 2 (gaussian)");
    assert_eq!(floats.hint.as_deref(), Some("put a threshold before it"));
    let input = error("label", Dtype::F64);
    assert_eq!(input.message, "step 1 (label) takes bool or integers, but gets float64 from the input");
    let mask = error("threshold above=1 | objects", Dtype::U8);
    assert_eq!(mask.message, "step 2 (objects) takes integer labels, but gets bool from step 1 (threshold)");
}

#[test]
fn a_number_beyond_the_type_names_step_and_type() {
    use Dtype::*;
    let message = |line: &str, input| output_dtypes(&bare(&steps_from_line(line).unwrap()), input).unwrap_err().message;
    let fill = "rescale | cast dtype=uint8 | median size=3 mode=constant value=";
    for value in ["300", "-1", "0.5", "nan", "inf"] {
        let expected = match value {
            "nan" => "NaN",
            other => other,
        };
        assert_eq!(
            message(&format!("{fill}{value}"), F64),
            format!("step 3 (median): `value` is {expected}, which uint8 can't hold")
        );
    }
    let held = |op: &str, dtype, value: &str| {
        output_dtypes(&bare(&steps_from_line(&format!("{op} size=3 mode=constant value={value}")).unwrap()), dtype)
            .is_ok()
    };
    for op in ["median", "minimum", "maximum"] {
        assert!(held(op, U64, "18446744073709549568") && !held(op, U64, "18446744073709551616"));
        assert!(held(op, I64, "-9223372036854775808") && !held(op, I64, "9223372036854775808"));
        assert!(held(op, Bool, "1") && held(op, Bool, "0") && !held(op, Bool, "2"));
        assert!(held(op, F32, "0.1") && held(op, F32, "nan") && held(op, F32, "-inf") && !held(op, F32, "1e300"));
        assert!(held(op, F64, "1e300"));
    }
    assert!(held("mean", U8, "0.5") && held("mean", U8, "nan"), "what averages gives floats");
    assert_eq!(message("clip low=1.2 high=1.8", U16), "step 1 (clip): no uint16 lies between `low` 1.2 and `high` 1.8");
}

#[test]
fn lists_follow_the_axes_of_the_image() {
    let list = PerAxis::Each(vec![1, 2, 3]);
    assert_eq!(list.resolve(false, 0).unwrap(), [1, 2, 3]);
    assert_eq!(list.resolve(true, 0).unwrap_err().message, "a list of 3 was given, but the image has two axes (y, x)");
    assert_eq!(PerAxis::Each(vec![5, 6]).resolve(true, 1).unwrap(), [1, 5, 6]);
    assert_eq!(PerAxis::All(7).resolve(true, 1).unwrap(), [1, 7, 7]);
    assert_eq!(PerAxis::All(7).resolve(false, 1).unwrap(), [7, 7, 7]);
    assert_eq!("64".parse(), Ok(PerAxis::All(64)));
    assert_eq!("[32,64, 64]".parse(), Ok(PerAxis::Each(vec![32, 64, 64])));
    assert_eq!("a,b".parse::<PerAxis<usize>>().unwrap_err().message, "`a,b` is not a number, nor a list like 32,64,64");
}

#[test]
fn connectivity_4_and_8_are_for_planar_images() {
    let pairs = [(4, 6), (6, 6), (8, 26), (18, 18), (26, 26)];
    for (written, neighbours) in pairs {
        let connectivity = Connectivity::try_from(written).unwrap();
        assert_eq!(connectivity.neighbours(true).unwrap(), neighbours);
    }
    assert_eq!(
        Connectivity::Four.neighbours(false).unwrap_err().message,
        "connectivity 4 is for 2-D images, but the image has three axes"
    );
    assert_eq!(Connectivity::Eighteen.neighbours(false).unwrap(), 18);
}

#[test]
fn help_tells_each_op_with_its_parameters_and_defaults() {
    let help = help_steps();
    for wanted in [
        "\ngaussian\n    Smooths with a Gaussian, giving float32 (float64 for float64). Twin:\n    scipy.ndimage.gaussian_filter.\n    sigma (required)\n",
        "    truncate = 4.0\n",
        "    mode = reflect\n",
        "    connectivity = 6\n",
        "    min_voxels = 1\n",
        "    clear_border = false\n",
        "    contacts = none\n",
        "Every step takes one more:\n\n    save\n        Keeps the image after this step as NAME.zarr",
        "    outside = ignore\n",
        "    divide = 1.0\n",
    ] {
        assert!(help.contains(wanted), "{wanted}\nis not in\n{help}");
    }
    assert!(help.lines().all(|line| line.len() <= 112), "{help}");
    assert_eq!(steps_from_line(catalog::EXAMPLE).unwrap().len(), 5);
}
