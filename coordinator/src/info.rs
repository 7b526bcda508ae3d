//! `voxmill info`: what an array is, as text and as JSON.

use pipeline::Result;
use pipeline::array::{Array, Pick};
use pipeline::store::Stores;
use serde::Serialize;
use std::fmt;
use voxel::{AnyVolume, Element, Region, Volume, with_dtype, with_volume};

/// A summary of an array and the image it is seen as. Spatial values are along `axes`: z, y, x, or y, x.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Info {
    /// The array, as an absolute path or URL.
    pub url: String,
    /// Names of the spatial axes.
    pub axes: Vec<String>,
    /// Voxels along each axis.
    pub shape: Vec<usize>,
    /// The shape as stored, where the array has time or channel axes too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored_shape: Option<Vec<u64>>,
    /// Voxel type by its numpy name.
    pub dtype: &'static str,
    /// Bytes of the decoded image.
    pub bytes: u64,
    /// Voxels of a chunk along each axis.
    pub chunks: Vec<usize>,
    /// Voxels of a shard along each axis, where there are shards.
    pub shards: Option<Vec<usize>>,
    /// The codecs in the order of encoding.
    pub codecs: Vec<String>,
    /// The value of missing chunks, as text.
    pub fill_value: String,
    /// Full name of the unit along each axis, where known.
    pub units: Vec<Option<String>>,
    /// Size of a voxel along each axis.
    pub scale: Vec<f64>,
    /// Position of the centre of the first voxel.
    pub translation: Vec<f64>,
    /// Paths of the resolution levels, finest first; empty for an array alone.
    pub levels: Vec<String>,
    /// Which of the levels this is.
    pub level: usize,
    /// What the metadata does not say, one sentence each.
    pub missing: Vec<String>,
}

/// Summarises the array at `url`. Of several channels, time points or series the first is taken unless `pick` says
/// otherwise: what is told here is the same for all of them.
///
/// # Errors
///
/// Those of [`Array::open`].
pub async fn info(stores: &Stores, url: &str, pick: &Pick) -> Result<Info> {
    let first = |chosen: Option<usize>| Some(chosen.unwrap_or(0));
    let pick =
        Pick { level: pick.level, channel: first(pick.channel), time: first(pick.time), series: first(pick.series) };
    let array = Array::open(stores, url, &pick).await?;
    let extent = array.extent();
    let on_axes = |values: [usize; 3]| extent.axes().map(|axis| values[axis]).collect::<Vec<_>>();
    let units: Vec<Option<String>> = extent.axes().map(|axis| array.units()[axis].clone()).collect();
    let mut missing = Vec::new();
    if array.levels().is_empty() {
        missing.push("no OME-Zarr metadata: a voxel is taken as 1 by 1 by 1, without a unit".to_owned());
    } else if units.iter().any(Option::is_none) {
        let names: Vec<_> =
            array.axes().iter().zip(&units).filter(|(_, unit)| unit.is_none()).map(|(name, _)| name.as_str()).collect();
        missing.push(format!("no unit along {}: physical sizes are left out of tables", names.join(", ")));
    }
    Ok(Info {
        url: array.url().to_owned(),
        axes: array.axes().to_vec(),
        shape: on_axes(extent.shape),
        stored_shape: (array.stored_shape().len() > extent.axes().len()).then(|| array.stored_shape().to_vec()),
        dtype: array.dtype().name(),
        bytes: extent.region().voxels() as u64 * array.dtype().size() as u64,
        chunks: on_axes(array.chunk()),
        shards: array.shard().map(on_axes),
        codecs: array.codecs().to_vec(),
        fill_value: fill_value(&array),
        units,
        scale: extent.axes().map(|axis| array.scale()[axis]).collect(),
        translation: extent.axes().map(|axis| array.translation()[axis]).collect(),
        levels: array.levels().to_vec(),
        level: array.level(),
        missing,
    })
}

fn fill_value(array: &Array) -> String {
    let one = Region::whole([1; 3]);
    let fill: Option<AnyVolume> = with_dtype!(array.dtype(), T => {
        let values = T::from_ne(array.fill().into());
        (values.len() == 1).then(|| Volume::new(one, values).into())
    });
    fill.map_or_else(String::new, |volume| with_volume!(volume, v => format!("{:?}", v.data[0])))
}

/// As a person reads it: one line for each thing, aligned.
impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.url)?;
        let mut line = |name: &str, value: String| writeln!(f, "  {name:<12}{value}");
        line("shape", format!("{} ({})", by(&self.shape), self.axes.join(", ")))?;
        if let Some(stored) = &self.stored_shape {
            line("stored as", by(stored))?;
        }
        line("type", self.dtype.to_owned())?;
        line("size", size(self.bytes))?;
        line("chunks", by(&self.chunks))?;
        line("shards", self.shards.as_deref().map_or_else(|| "none".to_owned(), by))?;
        line("codecs", if self.codecs.is_empty() { "none".to_owned() } else { self.codecs.join(", ") })?;
        line("fill value", self.fill_value.clone())?;
        let unit = |axis: usize| self.units[axis].as_deref().map_or(String::new(), |unit| format!(" {unit}"));
        let lengths = |values: &[f64]| {
            values.iter().enumerate().map(|(a, v)| format!("{v}{}", unit(a))).collect::<Vec<_>>().join(", ")
        };
        line("voxel size", lengths(&self.scale))?;
        if self.translation.iter().any(|t| *t != 0.0) {
            line("origin", lengths(&self.translation))?;
        }
        match self.levels.len() {
            0 => {}
            n => line("level", format!("{} of {n} ({})", self.level, self.levels.join(", ")))?,
        }
        for sentence in &self.missing {
            line("missing", sentence.clone())?;
        }
        Ok(())
    }
}

fn by<N: ToString>(lengths: &[N]) -> String {
    lengths.iter().map(N::to_string).collect::<Vec<_>>().join(" x ")
}

/// Bytes in the largest binary unit that leaves a number of at least one.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} bytes") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use pipeline::array::{ArraySpec, Codec, Geometry, Group, GroupKind, OmeVersion, write_whole};
    use pipeline::store::Store;
    use voxel::{Dtype, Extent};

    async fn image(folder: &std::path::Path, grouped: bool) -> String {
        let url = folder.join("a.zarr").to_str().unwrap().to_owned();
        let spec = ArraySpec {
            extent: Extent { shape: [3, 4, 5], planar: false },
            dtype: Dtype::U16,
            chunks: [2, 2, 2],
            shards: Some([2, 4, 4]),
            codec: Codec::Zstd { level: 3 },
            dimension_names: Vec::new(),
            ome: OmeVersion::V05,
        };
        let store = Store::open(&url).unwrap();
        let volume = Volume::new(spec.extent.region(), vec![7u16; 60]).into();
        if !grouped {
            write_whole(&store, &spec, &volume).await.unwrap();
            return url;
        }
        write_whole(&store.child("0").unwrap(), &spec, &volume).await.unwrap();
        let units = [None, Some("micrometer".to_owned()), Some("micrometer".to_owned())];
        let geometry = Geometry::spaced(false, [2.0, 0.5, 0.5], [0.0, 0.25, 0.0], units);
        Group::single("a", GroupKind::Image, geometry).publish(&store).await.unwrap();
        url
    }

    #[tokio::test]
    async fn an_image_is_told_in_full() {
        let folder = tempfile::tempdir().unwrap();
        let url = image(folder.path(), true).await;
        let info = info(&Stores::default(), &url, &Pick::default()).await.unwrap();
        let codecs = info.codecs.join(", ");
        let expected = format!(
            "{url}/0
  shape       3 x 4 x 5 (z, y, x)
  type        uint16
  size        120 bytes
  chunks      2 x 2 x 2
  shards      2 x 4 x 4
  codecs      {codecs}
  fill value  0
  voxel size  2, 0.5 micrometer, 0.5 micrometer
  origin      0, 0.25 micrometer, 0 micrometer
  level       0 of 1 (0)
  missing     no unit along z: physical sizes are left out of tables
"
        );
        assert_eq!(info.to_string(), expected);
        assert!(codecs.contains("zstd"), "{codecs}");
        let json = serde_json::to_value(&info).unwrap();
        assert_eq!(json["shape"], serde_json::json!([3, 4, 5]));
        assert_eq!(json["units"], serde_json::json!([null, "micrometer", "micrometer"]));
        assert_eq!(json["shards"], serde_json::json!([2, 4, 4]));
    }

    #[tokio::test]
    async fn an_array_alone_says_what_it_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let url = image(folder.path(), false).await;
        let info = info(&Stores::default(), &url, &Pick::default()).await.unwrap();
        assert_eq!(info.missing, ["no OME-Zarr metadata: a voxel is taken as 1 by 1 by 1, without a unit"]);
        assert_eq!(info.scale, [1.0; 3]);
        assert!(info.levels.is_empty());
    }

    #[test]
    fn sizes_are_told_in_the_unit_that_fits() {
        assert_eq!(size(0), "0 bytes");
        assert_eq!(size(1023), "1023 bytes");
        assert_eq!(size(1024), "1.0 KiB");
        assert_eq!(size(40 << 30), "40.0 GiB");
        assert_eq!(size(u64::MAX), "16384.0 PiB");
    }
}
