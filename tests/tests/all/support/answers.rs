//! What a run left for the user: its files byte for byte, its labels, its tables.

use pipeline::store::Stores;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use pipeline::array::{Array, ChunkCache, Pick};
use voxel::{Element, with_volume};

use super::twin::Object;
use super::wait;

/// Every file of an output that users open.
pub(crate) struct Answers {
    folder: PathBuf,
    files: BTreeMap<String, Vec<u8>>,
}

impl Answers {
    /// Reads what lies in `folder`, but for the run's own state and its provenance, which tells of times and blocks.
    pub(crate) fn read(folder: &Path) -> Self {
        let mut files = BTreeMap::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(at) = folders.pop() {
            for entry in std::fs::read_dir(&at).unwrap().map(Result::unwrap) {
                let path = entry.path();
                let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
                if name == ".voxmill" || name == "run.json" {
                    continue;
                }
                if entry.file_type().unwrap().is_dir() {
                    folders.push(path);
                } else {
                    files.insert(name, std::fs::read(&path).unwrap());
                }
            }
        }
        Self { folder: folder.to_owned(), files }
    }

    /// Names of the files.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.files.keys().map(String::as_str).collect()
    }

    /// The first file that is not the same in both, and where; `None` when every byte is.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        if self.names() != other.names() {
            let lacks = |a: &Self, b: &Self| a.files.keys().find(|name| !b.files.contains_key(*name)).cloned();
            return Some(format!("one has {:?}, the other {:?}", lacks(self, other), lacks(other, self)));
        }
        let (name, mine) = self.files.iter().find(|(name, bytes)| other.files[*name] != **bytes)?;
        let theirs = &other.files[name];
        let at = mine.iter().zip(theirs).position(|(a, b)| a != b).unwrap_or(mine.len().min(theirs.len()));
        Some(format!("{name} differs from byte {at} on ({} and {} bytes)", mine.len(), theirs.len()))
    }

    /// The same but for where the images say they lie: for two inputs that lie in different places.
    pub(crate) fn anywhere(mut self) -> Self {
        self.files.retain(|name, _| name.split('/').count() != 2 || !name.ends_with("/zarr.json"));
        self
    }

    /// The centre of the first voxel of the labels along z, y, x.
    pub(crate) fn place(&self) -> [f64; 3] {
        let url = self.folder.join("labels.zarr");
        wait(Array::open(&Stores::default(), &url.to_string_lossy(), &Pick::default())).unwrap().translation()
    }

    /// The labels of all voxels, in C order.
    pub(crate) fn labels(&self) -> Vec<u64> {
        let url = self.folder.join("labels.zarr");
        let voxels = wait(async {
            let array = Array::open(&Stores::default(), &url.to_string_lossy(), &Pick::default()).await.unwrap();
            let fetched = array.fetch(&ChunkCache::new(0), array.extent().region()).await.unwrap();
            tokio::task::spawn_blocking(|| fetched.decode().unwrap()).await.unwrap()
        });
        with_volume!(&voxels, v => v.data.iter().map(|v| v.to_i128().unwrap() as u64).collect())
    }

    /// The object table.
    pub(crate) fn objects(&self) -> Vec<Object> {
        let bytes = Bytes::from(self.files["objects.parquet"].clone());
        let table = SerializedFileReader::new(bytes).unwrap();
        table.get_row_iter(None).unwrap().map(|row| object(row.unwrap().get_column_iter())).collect()
    }

    /// Row groups of the object table.
    pub(crate) fn row_groups(&self) -> usize {
        let bytes = Bytes::from(self.files["objects.parquet"].clone());
        SerializedFileReader::new(bytes).unwrap().num_row_groups()
    }
}

fn object<'a>(columns: impl Iterator<Item = (&'a String, &'a Field)>) -> Object {
    let mut object = Object::default();
    for (name, field) in columns {
        let count = || match field {
            Field::ULong(v) => *v,
            Field::Long(v) => u64::try_from(*v).unwrap(),
            other => panic!("{name} is {other:?}"),
        };
        let number = || match field {
            Field::Double(v) => *v,
            Field::Long(v) => *v as f64,
            Field::ULong(v) => *v as f64,
            other => panic!("{name} is {other:?}"),
        };
        match name.as_str() {
            "label" => object.label = count(),
            "voxels" => object.voxels = count(),
            "centroid_z" | "centroid_y" | "centroid_x" => object.centroid.push(number()),
            "bbox_z0" | "bbox_y0" | "bbox_x0" => object.start.push(count()),
            "bbox_z1" | "bbox_y1" | "bbox_x1" => object.end.push(count()),
            "intensity_mean" => object.mean = number(),
            "intensity_std" => object.std = number(),
            "intensity_min" => object.min = number(),
            "intensity_max" => object.max = number(),
            "intensity_sum" => object.sum = number(),
            "surface_faces" => object.surface_faces = count(),
            "border_faces" => object.border_faces = count(),
            "touches_border" => object.touches_border = *field == Field::Bool(true),
            // Eigenvalues have a twin of their own beside their kernel, and here only equal bytes.
            _ => {}
        }
    }
    object
}
