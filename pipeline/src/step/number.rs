//! A number that may be infinite or NaN, which JSON has no way to write.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An f64 that JSON writes as a number when finite and as `"inf"`, `"-inf"` or `"nan"` otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Number(pub f64);

/// Equal when written alike: NaN equals NaN, so that a job equals its copy.
impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 || self.0.is_nan() && other.0.is_nan()
    }
}

/// The name of a number JSON can't hold.
fn non_finite_name(value: f64) -> Option<&'static str> {
    match value {
        f64::INFINITY => Some("inf"),
        f64::NEG_INFINITY => Some("-inf"),
        _ if value.is_nan() => Some("nan"),
        _ => None,
    }
}

/// `value` as JSON: as [`Number`] writes it, but a whole number as an integer, so that `1e6` is also a count.
pub(crate) fn json_number(value: f64) -> serde_json::Value {
    // Below 2^53 every whole number is exact.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match non_finite_name(value) {
        Some(name) => name.into(),
        None if value.fract() == 0.0 && value.abs() < EXACT && !(value == 0.0 && value.is_sign_negative()) => {
            (value as i64).into()
        }
        None => value.into(),
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match non_finite_name(self.0) {
            Some(name) => to.serialize_str(name),
            None => to.serialize_f64(self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "takes a number")]
        enum Written {
            Finite(f64),
            Named(NonFinite),
        }
        #[derive(Deserialize)]
        enum NonFinite {
            #[serde(rename = "inf")]
            Inf,
            #[serde(rename = "-inf")]
            NegInf,
            #[serde(rename = "nan")]
            Nan,
        }
        Ok(Self(match Written::deserialize(from)? {
            Written::Finite(value) => value,
            Written::Named(NonFinite::Inf) => f64::INFINITY,
            Written::Named(NonFinite::NegInf) => f64::NEG_INFINITY,
            Written::Named(NonFinite::Nan) => f64::NAN,
        }))
    }
}

impl JsonSchema for Number {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Number".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "anyOf": [{ "type": "number" }, { "enum": ["inf", "-inf", "nan"] }] })
    }
}
