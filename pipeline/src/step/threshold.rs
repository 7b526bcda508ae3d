//! `threshold`: exactly one of several rules.

use super::Number;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Parameters of `threshold`, with the one rule that was chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "ThresholdKeys", into = "ThresholdKeys")]
pub struct Threshold {
    /// Which values are inside.
    pub rule: Rule,
    /// Swaps inside and outside, after the comparison: NaN, which fails every comparison, then is inside.
    pub invert: bool,
}

/// Which values a threshold lets in. Comparisons are exact, in f64.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// v > a.
    Above(f64),
    /// v < b.
    Below(f64),
    /// a <= v <= b.
    Between(f64, f64),
    /// v > t, with t from Otsu's method (1979) on the whole volume's histogram.
    Otsu,
    /// v > t, with t this percentile (0 to 100, numpy's linear) of the whole volume's finite values.
    Percentile(f64),
}

/// `threshold` as it is written.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Threshold")]
struct ThresholdKeys {
    /// Inside is v > above. Exactly one of above, below, between, method and percentile is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    above: Option<Number>,
    /// Inside is v < below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    below: Option<Number>,
    /// Inside is a <= v <= b, for a list a,b.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    between: Option<[Number; 2]>,
    /// Inside is v > t, with t chosen from the histogram of the whole volume: otsu.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    method: Option<Method>,
    /// Inside is v > t, with t this percentile (0 to 100) of the whole volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    percentile: Option<f64>,
    /// Swaps inside and outside, after the comparison.
    #[serde(default)]
    invert: bool,
}

/// How a threshold is chosen from the histogram.
#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum Method {
    /// Otsu's: the largest variance between the two classes.
    Otsu,
}

impl TryFrom<ThresholdKeys> for Threshold {
    type Error = &'static str;

    fn try_from(keys: ThresholdKeys) -> Result<Self, Self::Error> {
        let rules = [
            keys.above.map(|a| Rule::Above(a.0)),
            keys.below.map(|b| Rule::Below(b.0)),
            keys.between.map(|[a, b]| Rule::Between(a.0, b.0)),
            keys.method.map(|Method::Otsu| Rule::Otsu),
            keys.percentile.map(Rule::Percentile),
        ];
        let mut rules = rules.into_iter().flatten();
        match (rules.next(), rules.next()) {
            (Some(rule), None) => Ok(Self { rule, invert: keys.invert }),
            (None, _) => Err("needs one of `above`, `below`, `between`, `method` and `percentile`"),
            _ => Err("takes only one of `above`, `below`, `between`, `method` and `percentile`"),
        }
    }
}

impl From<Threshold> for ThresholdKeys {
    fn from(threshold: Threshold) -> Self {
        let mut keys =
            Self { above: None, below: None, between: None, method: None, percentile: None, invert: threshold.invert };
        match threshold.rule {
            Rule::Above(a) => keys.above = Some(Number(a)),
            Rule::Below(b) => keys.below = Some(Number(b)),
            Rule::Between(a, b) => keys.between = Some([Number(a), Number(b)]),
            Rule::Otsu => keys.method = Some(Method::Otsu),
            Rule::Percentile(p) => keys.percentile = Some(p),
        }
        keys
    }
}
