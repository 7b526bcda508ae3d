//! Voxels without a header, whose shape and type the user gives.

use super::input::{Input, length_of};
use super::source::{Context, Source, c_order};
use pipeline::{Error, Result};
use std::path::Path;
use voxel::{Dtype, Extent};

/// What a file of raw voxels does not say of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Raw {
    /// Shape z, y, x; planar when it was given as y, x.
    pub extent: Extent,
    /// Type of a voxel.
    pub dtype: Dtype,
    /// Its bytes come most significant first.
    pub big_endian: bool,
    /// Bytes before the first voxel.
    pub offset: u64,
}

impl Raw {
    /// From the flags `--shape z,y,x`, `--dtype`, `--order` and `--offset`.
    ///
    /// # Errors
    /// Invalid, naming the flag.
    pub fn from_flags(shape: &str, dtype: &str, order: Option<&str>, offset: u64) -> Result<Self> {
        let wrong =
            || Error::invalid(format!("--shape: `{shape}` is not z,y,x, nor y,x")).hint("write --shape 100,512,512");
        let lengths: Vec<usize> =
            shape.split([',', 'x']).map(|n| n.trim().parse()).collect::<Result<_, _>>().map_err(|_| wrong())?;
        let extent = match *lengths.as_slice() {
            [y, x] => Extent { shape: [1, y, x], planar: true },
            [z, y, x] => Extent { shape: [z, y, x], planar: false },
            _ => return Err(wrong()),
        };
        if extent.shape.contains(&0) {
            return Err(Error::invalid(format!("--shape: `{shape}` has no voxels")));
        }
        let dtype = Dtype::from_name(dtype).ok_or_else(|| {
            Error::invalid(format!("--dtype: there is no type `{dtype}`"))
                .hint(format!("these are read: {}", Dtype::ALL.map(Dtype::name).join(", ")))
        })?;
        let big_endian = match order {
            None | Some("little") => false,
            Some("big") => true,
            Some(other) => {
                return Err(Error::invalid(format!("--order: `{other}` is neither little nor big")));
            }
        };
        Ok(Self { extent, dtype, big_endian, offset })
    }
}

/// The voxels of `path`, which must be exactly those.
pub(super) fn open(path: &Path, raw: &Raw, context: &Context) -> Result<Source> {
    context.reading.only_one(&path.display().to_string())?;
    let layout = c_order(raw.extent, raw.dtype, raw.big_endian == cfg!(target_endian = "little"));
    let length = length_of(path)?;
    let shape: Vec<String> = raw.extent.axes().map(|axis| raw.extent.shape[axis].to_string()).collect();
    let promised = format!("{} {} after {} bytes", shape.join(" x "), raw.dtype, raw.offset);
    let bytes = layout.bytes(&promised)?;
    if raw.offset.checked_add(bytes) != Some(length) {
        let error = Error::invalid(format!(
            "{} has {length} bytes, and {promised} makes {}",
            path.display(),
            raw.offset.saturating_add(bytes)
        ));
        return Err(match would_fit(raw, length) {
            Some(hint) => error.hint(hint),
            None => error,
        });
    }
    Source::new(Input::plain(path)?, layout, raw.offset, context)
}

/// What would make a file of that length, if anything simple would.
fn would_fit(raw: &Raw, length: u64) -> Option<String> {
    let Extent { shape, planar } = raw.extent;
    let voxels = shape.iter().try_fold(1u64, |product, n| product.checked_mul(*n as u64))?;
    let bytes = voxels.checked_mul(raw.dtype.size() as u64)?;
    if length == bytes {
        return Some("it fits without --offset".to_owned());
    }
    let after = length.checked_sub(raw.offset)?;
    if after % voxels == 0 {
        let size = usize::try_from(after / voxels).ok()?;
        let types: Vec<&str> = Dtype::ALL.into_iter().filter(|dtype| dtype.size() == size).map(Dtype::name).collect();
        if !types.is_empty() {
            return Some(format!("--dtype {} would fit", types.join(" or ")));
        }
    }
    let plane = voxels / shape[0] as u64 * raw.dtype.size() as u64;
    if !planar && after > 0 && after % plane == 0 {
        return Some(format!("--shape {},{},{} would fit", after / plane, shape[1], shape[2]));
    }
    (length > bytes).then(|| format!("if it begins with a header, --offset {} would fit", length - bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn flags_are_read_strictly() {
        let raw = Raw::from_flags("2,3,4", "int16", Some("big"), 7).unwrap();
        let extent = Extent { shape: [2, 3, 4], planar: false };
        assert_eq!(raw, Raw { extent, dtype: Dtype::I16, big_endian: true, offset: 7 });
        assert!(Raw::from_flags("3,4", "int16", None, 0).unwrap().extent.planar);
        let cases = [
            (("2,3,4,5", "int16", None), "--shape: `2,3,4,5` is not z,y,x, nor y,x"),
            (("two", "int16", None), "--shape: `two` is not z,y,x, nor y,x"),
            (("0,3", "int16", None), "--shape: `0,3` has no voxels"),
            (("2,3", "short", None), "--dtype: there is no type `short`"),
            (("2,3", "int16", Some("middle")), "--order: `middle` is neither little nor big"),
        ];
        for ((shape, dtype, order), message) in cases {
            assert_eq!(Raw::from_flags(shape, dtype, order, 0).unwrap_err().message, message);
        }
    }

    #[test]
    fn what_would_fit_is_told() {
        let raw = |offset| Raw::from_flags("2,3,4", "uint16", None, offset).unwrap();
        let cases = [
            (0, 24, Some("--dtype bool or uint8 or int8 would fit")),
            (0, 24 * 8, Some("--dtype uint64 or int64 or float64 would fit")),
            (0, 24 * 3, Some("--shape 3,3,4 would fit")),
            (0, 50, Some("if it begins with a header, --offset 2 would fit")),
            (5, 48, Some("it fits without --offset")),
            (0, 7, None),
        ];
        for (offset, length, hint) in cases {
            assert_eq!(would_fit(&raw(offset), length).as_deref(), hint, "{offset} {length}");
        }
    }
}
