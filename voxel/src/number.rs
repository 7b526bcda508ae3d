//! Floats in JSON, which has no word for the infinities and NaN: those are written as text.
//!
//! For `#[serde(with = "number")]` on what a plan carries: parameters that a user may well have written as `inf`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Number(f64),
    Text(String),
}

pub(crate) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    let written = if value.is_finite() { Written::Number(*value) } else { Written::Text(value.to_string()) };
    written.serialize(serializer)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    match Written::deserialize(deserializer)? {
        Written::Number(value) => Ok(value),
        Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use crate::filter::Boundary;
    use crate::threshold::{Cut, Threshold};

    #[test]
    fn what_json_has_no_word_for_survives_it() {
        for value in [f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.1, f64::MIN_POSITIVE, f64::MAX] {
            for cut in [Cut::Above(value), Cut::Below(value), Cut::Between(value, -value)] {
                let threshold = Threshold { cut, invert: true };
                let text = serde_json::to_string(&threshold).expect("a threshold can be written");
                assert_eq!(serde_json::from_str::<Threshold>(&text).expect(&text), threshold);
            }
            let text = serde_json::to_string(&Boundary::Constant(value)).expect("a boundary can be written");
            assert_eq!(serde_json::from_str::<Boundary>(&text).expect(&text), Boundary::Constant(value));
        }
    }
}
