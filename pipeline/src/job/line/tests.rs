#![allow(clippy::unwrap_used)]

use super::*;
use crate::step::Step;
use crate::step::{PerAxis, Rescale};
use proptest::prelude::*;

/// The whole error as a user reads it.
fn error(text: &str) -> String {
    let error = steps_from_line(text).unwrap_err();
    match error.hint {
        Some(hint) => format!("{}\nhint: {hint}", error.message),
        None => error.message,
    }
}

#[test]
fn words_split_at_any_white_space_and_steps_at_bars() {
    let spread = "rescale\n  divide=255\tinvert\n| gaussian sigma=[3,6,6]|threshold above=0.9\n";
    let tight = "rescale divide=255 invert|gaussian sigma=3,6,6|threshold above=9e-1";
    assert_eq!(steps_from_line(spread).unwrap(), steps_from_line(tight).unwrap());
    let steps = steps_from_line(tight).unwrap();
    assert_eq!(steps[0].step, Step::Rescale(Rescale { divide: 255.0, invert: true, ..Rescale::default() }));
}

#[test]
fn empty_text_only_measures() {
    for text in ["", "  \n\t ", "[]", " [ ] "] {
        assert_eq!(steps_from_line(text).unwrap(), [], "{text:?}");
    }
}

#[test]
fn numbers_are_read_as_rust_and_python_print_them() {
    for (written, sigma) in [("1e-3", 1e-3), ("1e-05", 1e-5), ("0.1", 0.1), ("5.", 5.0), (".5", 0.5), ("+2", 2.0)] {
        let Step::Gaussian(gaussian) = &steps_from_line(&format!("gaussian sigma={written}")).unwrap()[0].step else {
            panic!("a gaussian");
        };
        assert_eq!(gaussian.sigma, PerAxis::All(sigma), "{written}");
    }
    for (written, number) in [("inf", "\"inf\""), ("-inf", "\"-inf\""), ("Infinity", "\"inf\""), ("NaN", "\"nan\"")] {
        assert_eq!(value(written).to_string(), number);
    }
    assert_eq!(value("1e6").to_string(), "1000000", "a count may be written so");
    assert_eq!(value("18446744073709551615").to_string(), "18446744073709551615");
    assert_eq!(value("-0.0").to_string(), "-0.0");
}

#[test]
fn an_unknown_op_gets_a_caret_and_the_nearest_name() {
    assert_eq!(
        error("rescale divide=255 | gausian sigma=3"),
        "step 2: there is no op `gausian`
  rescale divide=255 | gausian sigma=3
                       ^^^^^^^
hint: did you mean `gaussian`?"
    );
    assert_eq!(
        error("rescale\n | watershed levels=3 seeds"),
        "step 2: there is no op `watershed`
   | watershed levels=3 seeds
     ^^^^^^^^^
hint: the ops are rescale, cast, clip, gaussian, median, mean, minimum, maximum, threshold, erode, dilate, open, close, fill_holes, label, objects"
    );
}

#[test]
fn a_wrong_word_gets_a_caret_and_what_would_help() {
    let cases = [
        (
            "gaussian sigm=3",
            "step 1 (gaussian) has no parameter `sigm`
  gaussian sigm=3
           ^^^^^^
hint: did you mean `sigma`?",
        ),
        (
            "gaussian 3",
            "step 1 (gaussian) is followed by a stray word, `3`
  gaussian 3
           ^
hint: write parameters as key=value, without spaces in between",
        ),
        (
            "gaussian sigma=1 threshold above=3",
            "step 1 (gaussian) is followed by another op, `threshold`
  gaussian sigma=1 threshold above=3
                   ^^^^^^^^^
hint: put `|` before `threshold`",
        ),
        (
            "gaussian sigma = 3",
            "`sigma` of step 1 (gaussian) has no value
  gaussian sigma = 3
           ^^^^^
hint: write sigma=..., without spaces",
        ),
        (
            "gaussian sigma=wide",
            "`sigma` of step 1 (gaussian) takes a number or a list of numbers, one for each axis, but got \"wide\"
  gaussian sigma=wide
           ^^^^^^^^^^",
        ),
        (
            "gaussian sigma=1 sigma=2",
            "step 1 (gaussian) is given `sigma` twice
  gaussian sigma=1 sigma=2
                   ^^^^^^^",
        ),
        (
            "gaussian",
            "step 1 (gaussian) needs `sigma`
  gaussian
  ^^^^^^^^",
        ),
        (
            "label connectivity=7",
            "`connectivity` of step 1 (label) takes 6, 18 or 26 (for 2-D images also 4 or 8), but got 7
  label connectivity=7
        ^^^^^^^^^^^^^^",
        ),
        (
            "label | erode\nball=0 | cast dtype=uint8",
            "step 2 (erode): `ball` is 0, but must be a radius above 0 and up to 1024 voxels
  ball=0 | cast dtype=uint8
  ^^^^^^",
        ),
        (
            "erode ball=1 outside=edge",
            "`outside` of step 1 (erode) takes `ignore` or `zero`, but got \"edge\"
  erode ball=1 outside=edge
               ^^^^^^^^^^^^",
        ),
        (
            "rescale invert=1",
            "`invert` of step 1 (rescale) takes true or false, but got 1
  rescale invert=1
          ^^^^^^^^",
        ),
        (
            "cast dtype=u8",
            "`dtype` of step 1 (cast) takes one of bool, uint8, int8, uint16, int16, uint32, int32, uint64, int64, \
             float32, float64, but got \"u8\"
  cast dtype=u8
       ^^^^^^^^",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(error(text), expected);
    }
}

#[test]
fn empty_steps_are_refused() {
    assert_eq!(
        error("label | | objects"),
        "step 2 is empty\n  label | | objects\n         ^\nhint: write an op between two `|`, and none at the end"
    );
    assert_eq!(
        error("label |"),
        "step 2 is empty\n  label |\n         ^\nhint: write an op between two `|`, and none at the end"
    );
}

#[test]
fn carets_count_characters_not_bytes() {
    assert_eq!(
        error("rescalé µ | x"),
        "step 1: there is no op `rescalé`\n  rescalé µ | x\n  ^^^^^^^\nhint: did you mean `rescale`?"
    );
}

#[test]
fn the_json_array_is_taken_too() {
    let json = r#"[{"op": "threshold", "between": [0, "inf"]}, {"op": "label", "connectivity": 26}]"#;
    assert_eq!(
        steps_from_line(json).unwrap(),
        steps_from_line("threshold between=0,inf | label connectivity=26").unwrap()
    );
    assert_eq!(
        error(r#"[{"op": "label"}, {"op": "open", "bal": 3}]"#),
        "step 2 (open) has no parameter `bal`\nhint: did you mean `ball`?"
    );
    assert!(error("[{]").starts_with("steps: not JSON: "));
}

proptest! {
    #[test]
    fn no_text_panics(text in "[a-z=,\\[\\] |\n\té∞0-9.-]{0,60}") {
        let _ = steps_from_line(&text);
    }

    #[test]
    fn ops_with_any_parameters_never_panic(words in proptest::collection::vec("(rescale|gaussian|median|threshold|erode|label|objects|cast|sigma=|size=|above=|between=|ball=|divide=|1|0|nan|,|invert|\\|| |é)", 0..12)) {
        let _ = steps_from_line(&words.concat());
    }
}
