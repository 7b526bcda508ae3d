//! `--voxel-size 1.2um`: the physical size of a voxel.

use super::place::Place;
use pipeline::{Error, Result};

/// The spacing of voxels along z, y, x, in one unit.
#[derive(Clone, Debug, PartialEq)]
pub struct VoxelSize {
    /// Spacing along z, y, x; the first is of no account for 2-D images.
    pub spacing: [f64; 3],
    /// The unit's full name, as OME-Zarr wants it: `micrometer`.
    pub unit: &'static str,
}

impl VoxelSize {
    /// Takes the place of what a file says. A translation in another unit would be wrong.
    pub(super) fn replace(&self, place: &mut Place) {
        place.spacing = Some(self.spacing);
        if place.unit.as_deref() != Some(self.unit) {
            place.translation = [0.0; 3];
        }
        place.unit = Some(self.unit.to_owned());
    }
}

/// Symbols and the full names they stand for.
const UNITS: [(&[&str], &str); 8] = [
    (&["A", "Å", "angstrom"], "angstrom"),
    (&["pm", "picometer"], "picometer"),
    (&["nm", "nanometer"], "nanometer"),
    // The micro sign, the Greek letter mu, and what a plain keyboard has.
    (&["um", "\u{b5}m", "\u{3bc}m", "micron", "micrometer"], "micrometer"),
    (&["mm", "millimeter"], "millimeter"),
    (&["cm", "centimeter"], "centimeter"),
    (&["m", "meter"], "meter"),
    (&["km", "kilometer"], "kilometer"),
];

/// As flags write it: `1.2um`, or `2,0.5,0.5um` for z,y,x, or `0.5,0.5um` for the y,x of a 2-D image.
impl std::str::FromStr for VoxelSize {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = |why: String| Err(Error::invalid(why).hint("write --voxel-size 1.2um, or 2,0.5,0.5um for z,y,x"));
        // Numbers may end in an exponent (`1e-3um`) and units may begin with e, so the unit is what follows the last
        // digit or point.
        let trimmed = text.trim();
        let split = trimmed.rfind(|c: char| c.is_ascii_digit() || c == '.').map_or(0, |last| last + 1);
        let (numbers, unit) = trimmed.split_at(split);
        let unit = unit.trim();
        if unit.is_empty() {
            return refuse(format!("the voxel size `{text}` has no unit"));
        }
        let Some((_, name)) = UNITS.iter().find(|(symbols, _)| symbols.contains(&unit)) else {
            return refuse(format!("the voxel size `{text}` has an unknown unit, `{unit}`"));
        };
        let numbers: Result<Vec<f64>, _> = numbers.split(',').map(|n| n.trim().parse::<f64>()).collect();
        let Ok(numbers) = numbers else {
            return refuse(format!("the voxel size `{text}` is not one number, nor z,y,x, before its unit"));
        };
        if numbers.iter().any(|n| !n.is_finite() || *n <= 0.0) {
            return refuse(format!("the voxel size `{text}` must be above 0"));
        }
        let spacing = match *numbers.as_slice() {
            [all] => [all; 3],
            [y, x] => [1.0, y, x],
            [z, y, x] => [z, y, x],
            _ => return refuse(format!("the voxel size `{text}` has {} numbers", numbers.len())),
        };
        Ok(Self { spacing, unit: name })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn one_number_or_one_for_each_axis_and_a_unit() {
        let cases = [
            ("1.2um", [1.2; 3], "micrometer"),
            ("2,0.5,0.5um", [2.0, 0.5, 0.5], "micrometer"),
            ("0.5, 0.25 \u{b5}m", [1.0, 0.5, 0.25], "micrometer"),
            ("1e-3mm", [0.001; 3], "millimeter"),
            ("3.nm", [3.0; 3], "nanometer"),
            ("4 angstrom", [4.0; 3], "angstrom"),
        ];
        for (text, spacing, unit) in cases {
            assert_eq!(text.parse(), Ok(VoxelSize { spacing, unit }), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        let cases = [
            ("1.2", "the voxel size `1.2` has no unit"),
            ("", "the voxel size `` has no unit"),
            ("1.2furlong", "the voxel size `1.2furlong` has an unknown unit, `furlong`"),
            ("um", "the voxel size `um` is not one number, nor z,y,x, before its unit"),
            ("0um", "the voxel size `0um` must be above 0"),
            ("1,2,3,4um", "the voxel size `1,2,3,4um` has 4 numbers"),
        ];
        for (text, message) in cases {
            assert_eq!(text.parse::<VoxelSize>().unwrap_err().message, message);
        }
    }
}
