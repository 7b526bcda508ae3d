//! What the fuzzer in `tests/` is let into: files to import, and the flags that are read here. Each function takes
//! anything and gives what was said of it; none may panic, hang, or take memory without bound.
//!
//! Not an API: hidden from the documentation, and free to change.

#![allow(missing_docs, reason = "for our own tests alone")]

use std::path::Path;

use pipeline::Result;
use voxel::{Region, with_volume};

use crate::import::{Raw, Reading, Source, VoxelSize, look};

/// Bytes that reading a file may take.
const MEMORY_BYTES: u64 = 8 << 20;

/// The image in a file: what it is, and some of its voxels.
pub fn import(path: &Path) -> String {
    let picks = [
        Reading::default(),
        Reading { channel: Some(0), time: Some(0), ..Reading::default() },
        Reading { member: Some("a.npy".into()), ..Reading::default() },
    ];
    let mut said = String::new();
    for reading in picks {
        said += &match read(path, &reading) {
            Ok(well) => well,
            Err(error) => format!("{:?}: {}; ", error.kind, error.message),
        };
    }
    said
}

/// Raw voxels, of the shape and type that stand on the first line of the file's name.
pub fn import_raw(path: &Path, shape: &str, dtype: &str, order: &str, offset: u64) -> String {
    let reading = Raw::from_flags(shape, dtype, Some(order), offset)
        .and_then(|raw| read(path, &Reading { raw: Some(raw), ..Reading::default() }));
    match reading {
        Ok(well) => well,
        Err(error) => format!("{:?}: {}", error.kind, error.message),
    }
}

fn read(path: &Path, reading: &Reading) -> Result<String> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut source: Source = look(path, reading, MEMORY_BYTES, folder)?;
    let (extent, dtype) = (source.extent(), source.dtype());
    // A box as large as an import would take at most, as it lies best in the file.
    let mut end = extent.shape.map(|n| n.min(1));
    for axis in source.nearest_axes() {
        let others = end.iter().product::<usize>() / end[axis].max(1);
        let room = (MEMORY_BYTES as usize / 2 / dtype.size()) / others.max(1);
        end[axis] = extent.shape[axis].min(room).max(1);
    }
    let read = source.read(Region { start: [0; 3], end })?;
    Ok(format!("{dtype} {} axes, {} voxels", extent.axes().count(), with_volume!(&read, v => v.data.len().ilog2())))
}

/// Flags whose text is read here.
pub fn flag(text: &str) -> String {
    let size = text.parse::<VoxelSize>();
    let raw = Raw::from_flags(text, "uint8", None, u64::MAX);
    format!("{:?} {:?}", size.map_err(|e| e.message).map(|_| ()), raw.map_err(|e| e.message).map(|_| ()))
}
