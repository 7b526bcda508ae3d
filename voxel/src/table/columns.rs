//! The object table as users see it: names, types and values of its columns.

use super::{Intensity, ObjectRow};
use crate::{Dtype, Element, with_dtype};
use serde::{Deserialize, Serialize};

/// The type of a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum ColumnType {
    #[serde(rename = "uint64")]
    U64,
    #[serde(rename = "int64")]
    I64,
    #[serde(rename = "float64")]
    F64,
    #[serde(rename = "bool")]
    Bool,
}

impl ColumnType {
    /// What labels of a type are in a table.
    pub fn of_labels(dtype: Dtype) -> Self {
        match dtype {
            Dtype::I8 | Dtype::I16 | Dtype::I32 | Dtype::I64 => Self::I64,
            _ => Self::U64,
        }
    }
}

/// One column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// The name in the table.
    pub name: &'static str,
    /// The type of its values.
    pub kind: ColumnType,
    measure: Measure,
}

/// What a column shows of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    Label,
    Voxels,
    Centroid(usize),
    BoxStart(usize),
    BoxEnd(usize),
    Mean,
    Std,
    Min,
    Max,
    Sum,
    Eigenvalue(usize),
    Anisotropy,
    SurfaceFaces,
    BorderFaces,
    TouchesBorder,
    Volume,
    PhysicalCentroid(usize),
}

/// How voxel indices become positions in the world.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spacing {
    /// Size of a voxel along z, y, x; 1 along an axis that the image does not have.
    pub scale: [f64; 3],
    /// Position of the centre of voxel 0, 0, 0 along z, y, x.
    pub translation: [f64; 3],
    /// Whether the sizes have a unit, the same for all axes.
    pub known: bool,
}

impl Default for Spacing {
    /// Voxels of size 1, without a unit.
    fn default() -> Self {
        Self { scale: [1.0; 3], translation: [0.0; 3], known: false }
    }
}

/// The columns of a table, in order.
///
/// | column | type | what | `regionprops_table` |
/// |---|---|---|---|
/// | `label` | uint64; int64 for signed ids | the number, or the id, of the object in the label image | `label` |
/// | `voxels` | uint64 | number of voxels | `num_pixels` |
/// | `centroid_z`, `_y`, `_x` | float64 | mean voxel index | `centroid-0`, `-1`, `-2` |
/// | `bbox_z0`, `_y0`, `_x0` | int64 | first voxel index of the bounding box | `bbox-0`, `-1`, `-2` |
/// | `bbox_z1`, `_y1`, `_x1` | int64 | one past its last voxel index | `bbox-3`, `-4`, `-5` |
/// | `intensity_mean` | float64 | mean of the finite intensities | `intensity_mean` |
/// | `intensity_std` | float64 | their population standard deviation | `intensity_std` |
/// | `intensity_min` | int64; uint64 for uint64, float64 for floats | the smallest of them | `intensity_min` |
/// | `intensity_max` | like `intensity_min` | the largest | `intensity_max` |
/// | `intensity_sum` | float64 | their exact sum, rounded once | none |
/// | `eigenvalue_1`, `_2`, `_3` | float64 | eigenvalues, descending, of the population covariance of the voxel centres times the voxel size | none (`inertia_tensor_eigvals` is of the inertia tensor: the sum of the other two) |
/// | `anisotropy` | float64 | 1 - last / first eigenvalue; 0 when the first is 0 | none |
/// | `surface_faces` | uint64 | voxel faces to any other value | none |
/// | `border_faces` | uint64 | voxel faces to the outside of the image | none |
/// | `touches_border` | bool | whether there are any of those | none |
/// | `volume` | float64 | voxels times the volume (in 2-D the area) of one, where units are known | `area`, given `spacing` |
/// | `physical_centroid_z`, `_y`, `_x` | float64 | where the centroid lies, where units are known | `centroid`, given `spacing` and no translation |
///
/// Without intensities there are no `intensity_*` columns. Tables of planar images have no z columns and no
/// `eigenvalue_3`, and their `regionprops_table` counterparts count from y. Of an object without a finite voxel, mean,
/// std, min and max are NaN and the sum is 0; integers are always finite.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    columns: Vec<Column>,
    planar: bool,
    label: Dtype,
    intensity: Option<Dtype>,
    spacing: Spacing,
}

impl Columns {
    /// The columns for objects of an image that is `planar` or not.
    ///
    /// `label` is the type whose keys say what stands in the label column: [`Dtype::U64`] for numbered components, the
    /// image's own for objects with ids. `intensity` is the type of the image of intensities, where there is one.
    pub fn new(planar: bool, label: Dtype, intensity: Option<Dtype>, spacing: Spacing) -> Self {
        use ColumnType::{Bool, F64, I64, U64};
        const AXES: std::ops::Range<usize> = 0..3;
        let axes = AXES.skip(usize::from(planar));

        let mut columns = Vec::new();
        let mut push = |name, kind, measure| columns.push(Column { name, kind, measure });
        push("label", ColumnType::of_labels(label), Measure::Label);
        push("voxels", U64, Measure::Voxels);
        for axis in axes.clone() {
            push(["centroid_z", "centroid_y", "centroid_x"][axis], F64, Measure::Centroid(axis));
        }
        for axis in axes.clone() {
            push(["bbox_z0", "bbox_y0", "bbox_x0"][axis], I64, Measure::BoxStart(axis));
        }
        for axis in axes.clone() {
            push(["bbox_z1", "bbox_y1", "bbox_x1"][axis], I64, Measure::BoxEnd(axis));
        }
        if let Some(dtype) = intensity {
            let value = match dtype {
                Dtype::U64 => U64,
                Dtype::F32 | Dtype::F64 => F64,
                _ => I64,
            };
            push("intensity_mean", F64, Measure::Mean);
            push("intensity_std", F64, Measure::Std);
            push("intensity_min", value, Measure::Min);
            push("intensity_max", value, Measure::Max);
            push("intensity_sum", F64, Measure::Sum);
        }
        for rank in 0..axes.len() {
            push(["eigenvalue_1", "eigenvalue_2", "eigenvalue_3"][rank], F64, Measure::Eigenvalue(rank));
        }
        push("anisotropy", F64, Measure::Anisotropy);
        push("surface_faces", U64, Measure::SurfaceFaces);
        push("border_faces", U64, Measure::BorderFaces);
        push("touches_border", Bool, Measure::TouchesBorder);
        if spacing.known {
            push("volume", F64, Measure::Volume);
            for axis in axes {
                let name = ["physical_centroid_z", "physical_centroid_y", "physical_centroid_x"][axis];
                push(name, F64, Measure::PhysicalCentroid(axis));
            }
        }
        Self { columns, planar, label, intensity, spacing }
    }

    /// The columns in order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The values of every column for `objects`: with each finished row the key of what stands in the label column,
    /// which is the object's final number, or [`ObjectRow::key`] where that is an id. One [`ColumnData`] per column, of
    /// its type, with one value per object.
    pub fn finish<'a>(&self, objects: impl Iterator<Item = (u64, &'a ObjectRow)> + Clone) -> Vec<ColumnData> {
        let eigenvalues: Vec<[f64; 3]> = objects.clone().map(|(_, row)| row.eigenvalues(self.spacing.scale)).collect();
        self.columns.iter().map(|column| self.column(*column, objects.clone(), &eigenvalues)).collect()
    }

    fn column<'a>(
        &self,
        column: Column,
        objects: impl Iterator<Item = (u64, &'a ObjectRow)>,
        eigenvalues: &[[f64; 3]],
    ) -> ColumnData {
        let last = if self.planar { 1 } else { 2 };
        let rows = objects.map(|(label, row)| (label, row, row.intensity.as_ref()));
        match column.measure {
            Measure::Label => values(column.kind, self.label, rows.map(|(label, ..)| Some(label))),
            Measure::Voxels => ColumnData::U64(rows.map(|(_, row, _)| row.voxels).collect()),
            Measure::Centroid(axis) => ColumnData::F64(rows.map(|(_, row, _)| row.centroid()[axis]).collect()),
            // Indices of an image that fits a disk are far below 2^63.
            Measure::BoxStart(axis) => ColumnData::I64(rows.map(|(_, row, _)| row.start[axis] as i64).collect()),
            Measure::BoxEnd(axis) => ColumnData::I64(rows.map(|(_, row, _)| row.end[axis] as i64).collect()),
            Measure::Mean => {
                let mean = |intensity: &Intensity| intensity.moments.mean();
                ColumnData::F64(rows.map(|(.., intensity)| intensity.and_then(mean).unwrap_or(f64::NAN)).collect())
            }
            Measure::Std => {
                let std = |intensity: &Intensity| intensity.moments.std();
                ColumnData::F64(rows.map(|(.., intensity)| intensity.and_then(std).unwrap_or(f64::NAN)).collect())
            }
            Measure::Sum => {
                let sum = |intensity: &Intensity| intensity.moments.sum();
                ColumnData::F64(rows.map(|(.., intensity)| intensity.map_or(0.0, sum)).collect())
            }
            Measure::Min => self.extremes(column.kind, rows.map(|(.., i)| i), |intensity| intensity.min_key),
            Measure::Max => self.extremes(column.kind, rows.map(|(.., i)| i), |intensity| intensity.max_key),
            Measure::Eigenvalue(rank) => ColumnData::F64(eigenvalues.iter().map(|e| e[rank]).collect()),
            Measure::Anisotropy => ColumnData::F64(eigenvalues.iter().map(|e| anisotropy(e[0], e[last])).collect()),
            Measure::SurfaceFaces => ColumnData::U64(rows.map(|(_, row, _)| row.surface_faces).collect()),
            Measure::BorderFaces => ColumnData::U64(rows.map(|(_, row, _)| row.border_faces).collect()),
            Measure::TouchesBorder => ColumnData::Bool(rows.map(|(_, row, _)| row.border_faces > 0).collect()),
            Measure::Volume => {
                let one: f64 = self.spacing.scale.iter().product();
                ColumnData::F64(rows.map(|(_, row, _)| row.voxels as f64 * one).collect())
            }
            Measure::PhysicalCentroid(axis) => {
                let Spacing { scale, translation, .. } = self.spacing;
                let place = |centroid: [f64; 3]| centroid[axis] * scale[axis] + translation[axis];
                ColumnData::F64(rows.map(|(_, row, _)| place(row.centroid())).collect())
            }
        }
    }

    fn extremes<'a>(
        &self,
        kind: ColumnType,
        intensities: impl Iterator<Item = Option<&'a Intensity>>,
        key: impl Fn(&Intensity) -> u64,
    ) -> ColumnData {
        let finite = |intensity: &&Intensity| intensity.moments.count() > 0;
        let keys = intensities.map(|intensity| intensity.filter(finite).map(&key));
        values(kind, self.intensity.unwrap_or(Dtype::U64), keys)
    }
}

fn anisotropy(first: f64, last: f64) -> f64 {
    if first == 0.0 { 0.0 } else { 1.0 - last / first }
}

/// The values with these keys in `dtype`; where there is no key, NaN or 0.
fn values(kind: ColumnType, dtype: Dtype, keys: impl Iterator<Item = Option<u64>>) -> ColumnData {
    with_dtype!(dtype, T => {
        let integer = |key: Option<u64>| key.and_then(|key| <T>::from_key(key).to_i128()).unwrap_or(0);
        match kind {
            ColumnType::U64 => ColumnData::U64(keys.map(|key| integer(key) as u64).collect()),
            ColumnType::I64 => ColumnData::I64(keys.map(|key| integer(key) as i64).collect()),
            ColumnType::F64 => {
                ColumnData::F64(keys.map(|key| key.map_or(f64::NAN, |key| <T>::from_key(key).to_f64())).collect())
            }
            ColumnType::Bool => ColumnData::Bool(keys.map(|key| key.is_some_and(|key| key != 0)).collect()),
        }
    })
}

/// The values of one column.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum ColumnData {
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
}

impl ColumnData {
    /// The type of the values.
    pub fn kind(&self) -> ColumnType {
        match self {
            Self::U64(_) => ColumnType::U64,
            Self::I64(_) => ColumnType::I64,
            Self::F64(_) => ColumnType::F64,
            Self::Bool(_) => ColumnType::Bool,
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::U64(values) => values.len(),
            Self::I64(values) => values.len(),
            Self::F64(values) => values.len(),
            Self::Bool(values) => values.len(),
        }
    }

    /// True without values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the values, little-endian: 8 bytes each, 1 for bool. Bytes of several pieces of a column, one after the
    /// other, are the bytes of the column.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&match self {
            Self::U64(values) => Element::le_bytes(values),
            Self::I64(values) => Element::le_bytes(values),
            Self::F64(values) => Element::le_bytes(values),
            Self::Bool(values) => Element::le_bytes(values),
        });
    }

    /// The column from what [`ColumnData::encode`] wrote; `None` when `bytes` doesn't hold whole values of that type.
    pub fn decode(kind: ColumnType, bytes: &[u8]) -> Option<Self> {
        fn eight<T>(bytes: &[u8], from: fn([u8; 8]) -> T) -> Option<Vec<T>> {
            let (whole, rest) = bytes.as_chunks();
            rest.is_empty().then(|| whole.iter().map(|b| from(*b)).collect())
        }
        Some(match kind {
            ColumnType::U64 => Self::U64(eight(bytes, u64::from_le_bytes)?),
            ColumnType::I64 => Self::I64(eight(bytes, i64::from_le_bytes)?),
            ColumnType::F64 => Self::F64(eight(bytes, f64::from_le_bytes)?),
            ColumnType::Bool => {
                let flag = |byte: &u8| (*byte < 2).then_some(*byte == 1);
                Self::Bool(bytes.iter().map(flag).collect::<Option<_>>()?)
            }
        })
    }
}
