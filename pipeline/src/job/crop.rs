//! `region`: the part of the input a job looks at, written as numpy slices.

use crate::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use voxel::{Extent, Region};

/// One slice for each axis of the input, in array order: `0:100,:,-64:`. Negative numbers count from the end and
/// bounds beyond the axis are clipped to it, as in numpy; steps and single numbers, which would drop an axis, are not
/// taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub struct Crop(Vec<Slice>);

/// `start:end` along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// First index; from the end of the axis when negative.
    pub start: i64,
    /// One past the last index; from the end of the axis when negative, `None` for the end itself.
    pub end: Option<i64>,
}

impl Slice {
    /// The half-open range of indices on an axis of `length`; empty when it starts at or past its end.
    fn on_axis(self, length: usize) -> (usize, usize) {
        // Nothing in memory or in a store is longer than i64::MAX.
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        let index = |at: i64| (if at < 0 { at.saturating_add(length) } else { at }).clamp(0, length) as usize;
        (index(self.start), index(self.end.unwrap_or(length)))
    }
}

impl Crop {
    /// The box of voxels this is of an image; [`Error::invalid`] when the number of slices is not the image's number
    /// of axes, or no voxel is left.
    pub fn resolve(&self, extent: &Extent) -> Result<Region> {
        let axes = extent.axes();
        if self.0.len() != axes.len() {
            let names = if extent.planar { "y, x" } else { "z, y, x" };
            return Err(Error::invalid(format!(
                "`region` {self} has {} slices, but the image has {} axes ({names})",
                self.0.len(),
                axes.len()
            ))
            .hint("write one slice for each axis, `:` for the whole of it"));
        }
        let mut region = extent.region();
        for (slice, axis) in self.0.iter().zip(axes) {
            let length = extent.shape[axis];
            (region.start[axis], region.end[axis]) = slice.on_axis(length);
            if region.start[axis] >= region.end[axis] {
                let name = ["z", "y", "x"][axis];
                return Err(Error::invalid(format!(
                    "`region` {self} leaves no voxel along {name}, which is {length} voxels long"
                )));
            }
        }
        Ok(region)
    }

    /// True when every slice is `:`.
    pub(crate) fn is_whole(&self) -> bool {
        self.0.iter().all(|slice| *slice == Slice { start: 0, end: None })
    }
}

/// `region` as it is written: one text, or a list with a text or a pair of numbers for each axis.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "takes slices like \"0:100,:,:\"")]
enum Written {
    Text(String),
    List(Vec<WrittenSlice>),
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum WrittenSlice {
    Text(String),
    Bounds([i64; 2]),
}

impl TryFrom<Written> for Crop {
    type Error = Error;

    fn try_from(written: Written) -> Result<Self> {
        match written {
            Written::Text(text) => text.parse(),
            Written::List(list) => {
                let slice = |one| match one {
                    WrittenSlice::Text(text) => text.parse(),
                    WrittenSlice::Bounds([start, end]) => Ok(Slice { start, end: Some(end) }),
                };
                Self::new(list.into_iter().map(slice).collect::<Result<_>>()?)
            }
        }
    }
}

impl Crop {
    /// One slice for each axis, z,y,x or y,x.
    pub fn new(slices: Vec<Slice>) -> Result<Self> {
        match slices.len() {
            2 | 3 => Ok(Self(slices)),
            n => Err(Error::invalid(format!("takes three slices (z,y,x), or two for 2-D images (y,x), not {n}"))),
        }
    }
}

impl JsonSchema for Crop {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Region".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Written::json_schema(generator)
    }
}

impl std::str::FromStr for Crop {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let inside = text.trim().strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        Self::new(inside.split(',').map(str::parse).collect::<Result<_>>()?)
    }
}

impl std::str::FromStr for Slice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        let bound = |word: &str| match word.trim() {
            "" => Ok(None),
            number => match number.parse() {
                Ok(bound) => Ok(Some(bound)),
                Err(_) => Err(Error::invalid(format!("takes slices like 0:100, and `{text}` is not one"))),
            },
        };
        match text.split(':').collect::<Vec<_>>().as_slice() {
            [start, end] => Ok(Self { start: bound(start)?.unwrap_or(0), end: bound(end)? }),
            [_, _, _] => Err(Error::invalid(format!("takes slices without a step, and `{text}` has one"))),
            [index] => match index.parse::<i64>() {
                // -1:0 would be empty, so the last index is written with an open end.
                Ok(-1) => Err(Error::invalid("takes slices, which keep the axis: write -1: instead of -1")),
                Ok(at) => Err(Error::invalid(format!(
                    "takes slices, which keep the axis: write {at}:{} instead of {at}",
                    at.saturating_add(1)
                ))),
                Err(_) => Err(Error::invalid(format!("takes slices like 0:100, and `{text}` is not one"))),
            },
            _ => Err(Error::invalid(format!("takes slices like 0:100, and `{text}` is not one"))),
        }
    }
}

impl std::fmt::Display for Slice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.start != 0 {
            write!(f, "{}", self.start)?;
        }
        f.write_str(":")?;
        match self.end {
            Some(end) => write!(f, "{end}"),
            None => Ok(()),
        }
    }
}

impl std::fmt::Display for Crop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, slice) in self.0.iter().enumerate() {
            write!(f, "{}{slice}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl From<Crop> for String {
    fn from(crop: Crop) -> Self {
        crop.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const VOLUME: Extent = Extent { shape: [100, 20, 30], planar: false };

    fn resolved(text: &str, extent: &Extent) -> Region {
        text.parse::<Crop>().unwrap().resolve(extent).unwrap()
    }

    #[test]
    fn slices_mean_what_numpy_means() {
        let cases = [
            ("0:100,:,:", [0, 0, 0], [100, 20, 30]),
            (":, :, :", [0, 0, 0], [100, 20, 30]),
            ("[-10:,5:-5,:1]", [90, 5, 0], [100, 15, 1]),
            ("50:1000,-1000:3,29:", [50, 0, 29], [100, 3, 30]),
        ];
        for (text, start, end) in cases {
            assert_eq!(resolved(text, &VOLUME), Region { start, end }, "{text}");
        }
        let planar = Extent { shape: [1, 20, 30], planar: true };
        assert_eq!(resolved("2:,:-1", &planar), Region { start: [0, 2, 0], end: [1, 20, 29] });
    }

    #[test]
    fn what_is_not_a_slice_is_refused_with_its_text() {
        let cases = [
            ("0:100", "takes three slices (z,y,x), or two for 2-D images (y,x), not 1"),
            ("5,:,:", "takes slices, which keep the axis: write 5:6 instead of 5"),
            ("-1,:,:", "takes slices, which keep the axis: write -1: instead of -1"),
            ("::2,:,:", "takes slices without a step, and `::2` has one"),
            ("a:b,:,:", "takes slices like 0:100, and `a:b` is not one"),
            ("", "takes slices like 0:100, and `` is not one"),
        ];
        for (text, message) in cases {
            assert_eq!(text.parse::<Crop>().unwrap_err().message, message, "{text}");
        }
    }

    #[test]
    fn an_empty_or_ill_fitting_crop_is_refused_by_the_image() {
        let message = |text: &str| text.parse::<Crop>().unwrap().resolve(&VOLUME).unwrap_err().message;
        assert_eq!(message(":,20:,:"), "`region` :,20:,: leaves no voxel along y, which is 20 voxels long");
        assert_eq!(message("7:3,:,:"), "`region` 7:3,:,: leaves no voxel along z, which is 100 voxels long");
        assert_eq!(message(":,:"), "`region` :,: has 2 slices, but the image has 3 axes (z, y, x)");
    }

    #[test]
    fn lists_of_texts_and_of_pairs_are_the_same_crop() {
        let text: Crop = "2:5,:9,3:7".parse().unwrap();
        for json in [r#""2:5,0:9,3:7""#, r#"["2:5", ":9", "3:7"]"#, "[[2, 5], [0, 9], [3, 7]]"] {
            assert_eq!(serde_json::from_str::<Crop>(json).unwrap(), text, "{json}");
        }
        assert_eq!(serde_json::to_string(&text).unwrap(), r#""2:5,:9,3:7""#);
    }
}
