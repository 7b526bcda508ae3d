//! The files that can be imported, behind one face: what image they hold, and the voxels of any box of it.

use super::input::{Input, Rest, failed};
use super::layout::{Layout, Order};
use super::place::Place;
use super::voxels::{COPY_BYTES, Flat, Stream};
use super::{Reading, nifti, npy, nrrd, raw, tiff, zip};
use pipeline::{Error, Result};
use std::path::Path;
use voxel::{AnyVolume, Dtype, Element, Extent, Region, Volume, with_volume};

/// An image in a file or a folder, opened and found readable.
pub(crate) struct Source {
    layout: Layout,
    voxels: Voxels,
    scaling: Option<Scaling>,
    /// What decoding takes besides what it gives.
    scratch_bytes: u64,
    pub(super) place: Place,
    /// What a user should know of what was made of the file.
    pub(super) notes: Vec<String>,
}

pub(super) enum Voxels {
    Flat(Flat),
    Stream(Stream),
}

/// `v * slope + inter` in float64, rounded once to `dtype`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scaling {
    pub(super) slope: f64,
    pub(super) inter: f64,
    pub(super) dtype: Dtype,
}

/// How a source is opened, besides what it is.
pub(super) struct Context<'a> {
    pub(super) reading: &'a Reading,
    /// Bounds what decoding one piece may take.
    pub(super) memory_bytes: u64,
    /// Takes the file for slabs beyond memory.
    pub(super) folder: &'a Path,
}

impl Source {
    /// Opens `path` by what its first bytes say it is, or as raw voxels when their shape and type are given.
    pub(super) fn open(path: &Path, context: &Context) -> Result<Self> {
        if let Some(raw) = &context.reading.raw {
            return raw::open(path, raw, context);
        }
        let metadata = std::fs::metadata(path).map_err(|error| failed(path, &error))?;
        if metadata.is_dir() {
            return tiff::open_folder(path, context);
        }
        let mut magic = [0; SNIFFED];
        let read = Input::plain(path)?.start(&mut magic)?;
        match &magic[..read] {
            [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => tiff::open(path, context),
            [b'P', b'K', 3 | 5, 4 | 6, ..] => zip::open(path, context),
            [0x1f, 0x8b, 8, ..] => {
                let mut magic = [0; SNIFFED];
                let read = Input::gzip(path)?.start(&mut magic)?;
                let inside = &magic[..read];
                Self::of_kind(path, inside, || Input::gzip(path), context)?
                    .ok_or_else(|| unknown(&format!("what is packed in {}", path.display()), inside))
            }
            start => Self::of_kind(path, start, || Input::plain(path), context)?
                .ok_or_else(|| unknown(&path.display().to_string(), start)),
        }
    }

    /// The formats that can be read front to back.
    fn of_kind(
        path: &Path,
        start: &[u8],
        input: impl FnOnce() -> Result<Input>,
        context: &Context,
    ) -> Result<Option<Self>> {
        if start.starts_with(npy::MAGIC) {
            return npy::open(input()?, context).map(Some);
        }
        if start.starts_with(nrrd::MAGIC) {
            return nrrd::open(path, input()?, context).map(Some);
        }
        if nifti::is_header(start) {
            return nifti::open(path, input()?, context).map(Some);
        }
        match nifti::header_beside(path) {
            Some(header) => nifti::open_pair(&header, context).map(Some),
            None => Ok(None),
        }
    }

    /// The image of that layout whose voxels follow in `input` after `skip` more bytes.
    ///
    /// # Errors
    /// Data when they can't all be there.
    pub(super) fn new(input: Input, layout: Layout, skip: u64, context: &Context) -> Result<Self> {
        let (name, bytes) = (input.name.clone(), layout.bytes(&input.name)?);
        let expected = input.position().checked_add(skip).and_then(|start| start.checked_add(bytes));
        if expected.is_none_or(|expected| expected > input.room) {
            let (expected, packed) = (expected.unwrap_or(u64::MAX), input.is_packed());
            let has = if packed { "what is packed can't make more than " } else { "it has " };
            return Err(Error::data(format!(
                "{name} is truncated: its header promises {expected} bytes, and {has}{}",
                input.room
            )));
        }
        let voxels = match input.rest(skip)? {
            Rest::Place(path, start) => Voxels::Flat(Flat::together(path, start)),
            Rest::Stream(reader) => Voxels::Stream(Stream::new(name, reader, bytes, context.folder)),
        };
        Ok(Self::of(layout, voxels))
    }

    /// An image without a place in the world.
    pub(super) fn of(layout: Layout, voxels: Voxels) -> Self {
        let scratch_bytes = match &voxels {
            Voxels::Flat(_) => layout.scratch_bytes(),
            // The window of deflate, a buffer before it, and what goes to the spool; a slab in the spool is read as a
            // file of that layout.
            Voxels::Stream(_) => {
                let all = layout.extent.shape.iter().product::<usize>().saturating_mul(layout.dtype.size());
                layout.scratch_bytes() + COPY_BYTES.min(all) as u64
            }
        };
        Self { layout, voxels, scaling: None, scratch_bytes, place: Place::default(), notes: Vec::new() }
    }

    /// Adds what decoding takes.
    pub(super) fn takes(mut self, bytes: u64) -> Self {
        self.scratch_bytes += bytes;
        self
    }

    pub(super) fn scaled(mut self, scaling: Option<Scaling>) -> Self {
        self.scaling = scaling;
        self
    }

    pub(crate) fn extent(&self) -> Extent {
        self.layout.extent
    }

    /// The type of the voxels that are read.
    pub(crate) fn dtype(&self) -> Dtype {
        self.scaling.map_or(self.layout.dtype, |scaling| scaling.dtype)
    }

    /// The axes in the order in which neighbours lie closest in the file: a box that is whole along the first of them
    /// is read in the longest runs. A stream's slabs lie across the last.
    pub(crate) fn nearest_axes(&self) -> [usize; 3] {
        self.layout.order.axes()
    }

    /// The most bytes that reading takes besides the voxels read.
    pub(super) fn scratch_bytes(&self) -> u64 {
        self.scratch_bytes
    }

    /// The voxels of `region`, which lies inside the extent.
    pub(crate) fn read(&mut self, region: Region) -> Result<AnyVolume> {
        let bytes = match &mut self.voxels {
            Voxels::Flat(flat) => flat.read(&self.layout, region)?,
            Voxels::Stream(stream) => stream.read(&self.layout, region)?,
        };
        let volume = self.layout.volume(region, bytes);
        Ok(match self.scaling {
            Some(scaling) => scaling.apply(&volume),
            None => volume,
        })
    }
}

impl Scaling {
    fn apply(self, volume: &AnyVolume) -> AnyVolume {
        fn map<A: Element, B: Element>(volume: &Volume<A>, f: impl Fn(f64) -> B) -> AnyVolume
        where
            AnyVolume: From<Volume<B>>,
        {
            AnyVolume::from(Volume::new(volume.region, volume.data.iter().map(|v| f(v.to_f64())).collect()))
        }
        let Self { slope, inter, dtype } = self;
        with_volume!(volume, v => match dtype {
            Dtype::F64 => map(v, |v| v * slope + inter),
            _ => map(v, |v| (v * slope + inter) as f32),
        })
    }
}

/// Bytes that tell one format from another; NIfTI has its mark at 344, DICOM at 128.
const SNIFFED: usize = 352;

/// What is read, for those who brought something else.
pub(super) const READ: &str = "these are read: TIFF (a file or a folder), NIfTI (.nii, .nii.gz, .hdr with .img), NRRD (.nrrd, .nhdr), \
    NumPy (.npy, .npz, .npy in a zip), and raw voxels with --shape and --dtype";

fn unknown(what: &str, start: &[u8]) -> Error {
    let other = match start {
        [0x89, b'H', b'D', b'F', ..] => Some("an HDF5 file"),
        [0x89, b'P', b'N', b'G', ..] => Some("a PNG image"),
        [0xff, 0xd8, 0xff, ..] => Some("a JPEG image"),
        [b'B', b'Z', b'h', ..] => Some("packed with bzip2"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("packed with zstd"),
        _ if start.get(128..132) == Some(b"DICM") => Some("a DICOM file"),
        [0x5c, 1, 0, 0, ..] | [0, 0, 1, 0x5c, ..] if start.len() >= 348 => Some("an Analyze 7.5 header"),
        _ => None,
    };
    match other {
        Some(other) => Error::invalid(format!("{what} is {other}, which is not read")).hint(READ),
        None => Error::invalid(format!("{what} is in none of the formats that are read")).hint(READ),
    }
}

/// A layout in the order in which most formats have it.
pub(super) fn c_order(extent: Extent, dtype: Dtype, swapped: bool) -> Layout {
    Layout { extent, dtype, swapped, order: Order::C }
}
