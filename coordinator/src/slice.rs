//! `voxmill slice`: one plane of an image as a picture.

use pipeline::array::{Array, ChunkCache, Pick};
use pipeline::store::Stores;
use pipeline::{Error, Result};
use serde_json::Value;
use std::path::Path;
use std::str::FromStr;
use voxel::{AnyVolume, Dtype, Element, Extent, Region, with_volume};

/// The axis that a slice stands still along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Axis {
    Z,
    Y,
    X,
}

impl FromStr for Axis {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "z" => Ok(Self::Z),
            "y" => Ok(Self::Y),
            "x" => Ok(Self::X),
            _ => Err(Error::invalid(format!("there is no axis `{text}`")).hint("write --axis z, y or x")),
        }
    }
}

/// The values that are black and white.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// Black, and everything below.
    pub black: f64,
    /// White, and everything above.
    pub white: f64,
}

impl FromStr for Window {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers: Option<Vec<f64>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
        match numbers.as_deref() {
            Some([black, white]) if black.is_finite() && white.is_finite() && black < white => {
                Ok(Self { black: *black, white: *white })
            }
            _ => Err(Error::invalid(format!("{text:?} is no window"))
                .hint("write two numbers, black before white, as in --window 0,4095")),
        }
    }
}

/// Which plane, and how it is shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// The axis that the plane is perpendicular to.
    pub axis: Axis,
    /// Index of the plane; the middle one when none.
    pub at: Option<usize>,
    /// What is black and white; chosen from the plane when none.
    pub window: Option<Window>,
    /// Shows integers as labels, whatever the image says of itself.
    pub labels: bool,
}

/// What a slice came out as.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sliced {
    /// Width of the picture in pixels.
    pub width: usize,
    /// Height of the picture in pixels.
    pub height: usize,
    /// How values became shades or colours.
    pub shading: Shading,
}

/// How values become shades or colours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shading {
    /// `black` and everything below is black, `white` and everything above is white, NaN is black, linear in between.
    Grey {
        /// The value that is black.
        black: f64,
        /// The value that is white.
        white: f64,
    },
    /// Each number has a colour of its own, the same in every slice of every image; 0 is black.
    Labels,
}

impl std::fmt::Display for Shading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Grey { black, white } => write!(f, "black is {black}, white is {white}"),
            Self::Labels => f.write_str("a colour for each label"),
        }
    }
}

/// Writes one plane of the image at `url` to `output`, an 8-bit PNG. Slices along z show y downwards and x to the right,
/// along y they show z and x, along x they show z and y. Without a window, grey values are windowed to the plane's
/// finite minimum and maximum, but uint8 is shown as it is unless it is a mask of 0 and 1, and label images are coloured.
/// A 2-D image is its own slice 0 along z.
///
/// # Errors
///
/// Those of [`Array::open`] and [`Array::fetch`]; Invalid for a plane that is not there, and for labels that are not
/// integers.
pub async fn slice(stores: &Stores, url: &str, pick: &Pick, view: &View, output: &Path) -> Result<Sliced> {
    let array = Array::open(stores, url, pick).await?;
    let axis = view.axis;
    let plane = plane_region(array.extent(), axis, view.at.unwrap_or(array.extent().shape[axis as usize] / 2))?;
    let integers = array.dtype().is_integer() || array.dtype() == Dtype::Bool;
    if view.labels && !integers {
        return Err(Error::invalid(format!("{} holds {}, and labels are integers", array.url(), array.dtype())));
    }
    let labels = view.labels || view.window.is_none() && array.dtype().is_integer() && is_labels(&array).await?;
    let [rows, columns] = match axis {
        Axis::Z => [1, 2],
        Axis::Y => [0, 2],
        Axis::X => [0, 1],
    };
    let (height, width) = (plane.shape()[rows], plane.shape()[columns]);

    // Chunks are as deep as they are wide, so a whole plane of them can be many times the plane: one row of chunks is
    // read at a time, and nothing is read twice.
    let cache = ChunkCache::new(0);
    let mut values = Values::new(array.dtype(), labels, view.window, width * height);
    let step = array.chunk()[rows];
    for start in (0..height).step_by(step) {
        let mut band = plane;
        band.start[rows] = start;
        band.end[rows] = (start + step).min(height);
        values.extend(&array.fetch(&cache, band).await?.decode()?);
    }
    let (shading, colour, pixels) = values.shaded();
    write_png(output, width, height, colour, &pixels)?;
    Ok(Sliced { width, height, shading })
}

/// The voxels of plane `at` along `axis`.
fn plane_region(extent: Extent, axis: Axis, at: usize) -> Result<Region> {
    if extent.planar && axis != Axis::Z {
        return Err(Error::invalid("a 2-D image has no slices along y or x").hint("write --axis z --at 0"));
    }
    let a = axis as usize;
    let mut region = extent.region();
    if at >= region.end[a] {
        return Err(Error::invalid(format!(
            "there is no plane {at} along {}: the image has 0 to {}",
            ["z", "y", "x"][a],
            region.end[a] - 1
        )));
    }
    (region.start[a], region.end[a]) = (at, at + 1);
    Ok(region)
}

/// True when the group around the array says that its values are labels, or the group is named as a run names its own.
async fn is_labels(array: &Array) -> Result<bool> {
    let Some((group, _)) = array.store().parent() else { return Ok(false) };
    for (key, pointer) in [("zarr.json", "/attributes/ome/image-label"), (".zattrs", "/image-label")] {
        if let Some(object) = group.get(key).await? {
            let document: Value = serde_json::from_slice(&object.bytes)
                .map_err(|error| Error::invalid(format!("{} is not JSON: {error}", group.display(key))))?;
            if document.pointer(pointer).is_some() {
                return Ok(true);
            }
        }
    }
    Ok([group.url(), array.url()].iter().any(|url| url.rsplit('/').next() == Some("labels.zarr")))
}

/// The values of a plane, kept as what they will be shaded from.
enum Values {
    /// Shown as they are: 0 is black and 255 white, or 1 where there is nothing else.
    Shades(Vec<u8>),
    Grey(Vec<f64>, Option<Window>),
    Labels(Vec<u64>),
}

impl Values {
    fn new(dtype: Dtype, labels: bool, window: Option<Window>, pixels: usize) -> Self {
        match dtype {
            _ if labels => Self::Labels(Vec::with_capacity(pixels)),
            Dtype::Bool | Dtype::U8 if window.is_none() => Self::Shades(Vec::with_capacity(pixels)),
            _ => Self::Grey(Vec::with_capacity(pixels), window),
        }
    }

    /// Appends a band of the plane, whose voxels are in picture order because C order is.
    fn extend(&mut self, band: &AnyVolume) {
        match (self, band) {
            (Self::Shades(shades), AnyVolume::U8(v)) => shades.extend(&v.data),
            (Self::Shades(shades), other) => {
                with_volume!(other, v => shades.extend(v.data.iter().map(|v| if v.is_foreground() { 255 } else { 0 })));
            }
            (Self::Grey(grey, _), band) => with_volume!(band, v => grey.extend(v.data.iter().map(|v| v.to_f64()))),
            (Self::Labels(labels), band) => {
                with_volume!(band, v => labels.extend(v.data.iter().map(|v| v.to_i128().unwrap_or(0) as u64)));
            }
        }
    }

    fn shaded(self) -> (Shading, png::ColorType, Vec<u8>) {
        match self {
            // A mask, or a plane without anything: as it is, nobody would see it.
            Self::Shades(mut shades) if shades.iter().all(|v| *v <= 1) => {
                shades.iter_mut().for_each(|v| *v *= 255);
                (Shading::Grey { black: 0.0, white: 1.0 }, png::ColorType::Grayscale, shades)
            }
            Self::Shades(shades) => (Shading::Grey { black: 0.0, white: 255.0 }, png::ColorType::Grayscale, shades),
            Self::Grey(grey, Some(Window { black, white })) => {
                let pixels = grey.iter().map(|v| shade(*v, black, white)).collect();
                (Shading::Grey { black, white }, png::ColorType::Grayscale, pixels)
            }
            Self::Grey(grey, None) => {
                let finite = || grey.iter().copied().filter(|v| v.is_finite());
                let (mut black, mut white) =
                    (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
                if black > white {
                    // No finite value at all.
                    (black, white) = (0.0, 0.0);
                }
                let pixels = grey.iter().map(|v| shade(*v, black, white)).collect();
                (Shading::Grey { black, white }, png::ColorType::Grayscale, pixels)
            }
            Self::Labels(labels) => {
                let pixels = labels.into_iter().flat_map(colour).collect();
                (Shading::Labels, png::ColorType::Rgb, pixels)
            }
        }
    }
}

/// 0 to 255 for `black` to `white`. A plane of one value is black.
fn shade(value: f64, black: f64, white: f64) -> u8 {
    if value == f64::INFINITY {
        return 255;
    }
    // Halved, so that the largest difference of two numbers is a number. `as` sends NaN, 0/0 included, to 0.
    let part = (value / 2.0 - black / 2.0) / (white / 2.0 - black / 2.0);
    (part * 255.0).round() as u8
}

/// A label's colour: pseudo-random by a bijection of 64 bits (the finaliser of SplitMix64; Steele, Lea and Flood 2014),
/// so that neighbouring numbers look different, and never dark.
fn colour(label: u64) -> [u8; 3] {
    if label == 0 {
        return [0; 3];
    }
    let mut h = label.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    h = (h ^ (h >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    h = (h ^ (h >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    h ^= h >> 31;
    let [a, b, c, pick, ..] = h.to_le_bytes();
    let mut rgb = [a, b, c];
    // One channel is bright, whichever the hash picks.
    let bright = &mut rgb[usize::from(pick) % 3];
    *bright = 160 + *bright % 96;
    rgb
}

fn write_png(output: &Path, width: usize, height: usize, colour: png::ColorType, pixels: &[u8]) -> Result<()> {
    let (Ok(columns), Ok(rows)) = (u32::try_from(width), u32::try_from(height)) else {
        return Err(Error::invalid(format!("a plane of {height} by {width} voxels is too large for a PNG"))
            .hint("choose a coarser --level"));
    };
    let encode = || -> Result<Vec<u8>, png::EncodingError> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, columns, rows);
        encoder.set_color(colour);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(pixels)?;
        writer.finish()?;
        Ok(bytes)
    };
    let bytes = encode().map_err(|error| Error::internal(format!("the picture can't be encoded: {error}")))?;
    std::fs::write(output, bytes)
        .map_err(|error| Error::invalid(format!("{} can't be written: {error}", output.display())))
}

#[cfg(test)]
mod tests;
