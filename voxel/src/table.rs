//! What is known of an object: a row that can be joined with the rows of its other parts, and the table it ends in.
//!
//! An [`ObjectRow`] holds exact sums, so an object cut up by blocks has the same row as one that is whole.
//! [`measure`] fills the rows of one block from runs; [`Columns`] turns finished rows into the columns users see. Which
//! rows belong to one object, and what number it gets, is left to the label merge.

mod by_row;
mod columns;
mod eigen;
mod measure;

pub use columns::{Column, ColumnData, ColumnType, Columns, Spacing};
pub use measure::{Objects, measure};

use crate::Merge;
use crate::exact_sum::{Kind, Moments, covariance};

/// The index pairs of [`ObjectRow::products`]: zz, zy, zx, yy, yx, xx.
const PAIRS: [(usize, usize); 6] = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)];

/// What is known of an object, or of the part of one that some block holds. Coordinates are voxel indices z, y, x in the
/// whole image.
///
/// Rows merge by the [`Merge`] law: the identity is a row without voxels. Sums of 64 and 128 bits hold every image whose
/// voxels can be counted in 64 bits and whose axes in 32.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRow {
    /// What objects are ordered by: of a component the C-order index of its first voxel, of an object with an id the
    /// id's [`key`](crate::Element::key).
    pub key: u64,
    /// Number of voxels.
    pub voxels: u64,
    /// Sums of z, of y and of x over the voxels.
    pub sums: [u128; 3],
    /// Sums of the products zz, zy, zx, yy, yx, xx over the voxels.
    pub products: [u128; 6],
    /// First voxel of the bounding box along each axis.
    pub start: [u64; 3],
    /// One past the last voxel of the bounding box.
    pub end: [u64; 3],
    /// Voxel faces to any other value. Faces between two voxels of the object aren't counted, nor are border faces.
    pub surface_faces: u64,
    /// Voxel faces to the outside of the image, along the axes it has.
    pub border_faces: u64,
    /// What the voxels hold in the image of intensities, where there is one.
    pub intensity: Option<Intensity>,
}

/// The finite intensities of an object's voxels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intensity {
    /// Their exact moments.
    pub moments: Moments,
    /// [`key`](crate::Element::key) of the smallest; `u64::MAX` when none is finite.
    pub min_key: u64,
    /// [`key`](crate::Element::key) of the largest; 0 when none is finite.
    pub max_key: u64,
}

impl Intensity {
    /// No intensity at all.
    pub fn new(kind: Kind) -> Self {
        Self { moments: Moments::new(kind), min_key: u64::MAX, max_key: 0 }
    }

    fn merge(&mut self, other: &Self) {
        self.moments.merge(&other.moments);
        self.min_key = self.min_key.min(other.min_key);
        self.max_key = self.max_key.max(other.max_key);
    }
}

impl Merge for ObjectRow {
    fn identity() -> Self {
        Self {
            key: u64::MAX,
            voxels: 0,
            sums: [0; 3],
            products: [0; 6],
            start: [u64::MAX; 3],
            end: [0; 3],
            surface_faces: 0,
            border_faces: 0,
            intensity: None,
        }
    }

    /// Panics when both rows have intensities, of different kinds.
    fn merge(&mut self, other: Self) {
        // Sums saturate: no image gets there, and a damaged row must neither panic nor depend on the order of merging.
        self.key = self.key.min(other.key);
        self.voxels = self.voxels.saturating_add(other.voxels);
        for (sum, more) in self.sums.iter_mut().zip(other.sums) {
            *sum = sum.saturating_add(more);
        }
        for (sum, more) in self.products.iter_mut().zip(other.products) {
            *sum = sum.saturating_add(more);
        }
        for axis in 0..3 {
            self.start[axis] = self.start[axis].min(other.start[axis]);
            self.end[axis] = self.end[axis].max(other.end[axis]);
        }
        self.surface_faces = self.surface_faces.saturating_add(other.surface_faces);
        self.border_faces = self.border_faces.saturating_add(other.border_faces);
        match (&mut self.intensity, other.intensity) {
            (Some(mine), Some(other)) => mine.merge(&other),
            (mine @ None, other) => *mine = other,
            (Some(_), None) => {}
        }
    }
}

impl ObjectRow {
    /// Length of what [`ObjectRow::encode`] appends: 224 bytes, and with intensities 16 and their moments.
    pub fn bytes(intensity: Option<Kind>) -> usize {
        4 * 8 + 9 * 16 + 6 * 8 + intensity.map_or(0, |kind| 16 + Moments::bytes(kind))
    }

    /// Bytes a row takes in memory, heap included.
    pub fn memory_bytes(intensity: Option<Kind>) -> usize {
        size_of::<Self>() + if intensity == Some(Kind::F64) { Moments::bytes(Kind::F64) } else { 0 }
    }

    /// Appends [`ObjectRow::bytes`] bytes, little-endian: key, voxels, sums, products, box, faces and, when `intensity`
    /// is given, the intensities of that kind (none, if the row has none).
    pub fn encode(&self, intensity: Option<Kind>, out: &mut Vec<u8>) {
        let push = |out: &mut Vec<u8>, words: &[u64]| out.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        push(out, &[self.key, self.voxels]);
        out.extend(self.sums.iter().chain(&self.products).flat_map(|sum| sum.to_le_bytes()));
        push(out, &self.start);
        push(out, &self.end);
        push(out, &[self.surface_faces, self.border_faces]);
        if let Some(kind) = intensity {
            let empty = Intensity::new(kind);
            let intensity = self.intensity.as_ref().unwrap_or(&empty);
            push(out, &[intensity.min_key, intensity.max_key]);
            intensity.moments.encode(out);
        }
    }

    /// The row from what [`ObjectRow::encode`] wrote for that kind of intensity; `None` when the length is another.
    pub fn decode(intensity: Option<Kind>, mut bytes: &[u8]) -> Option<Self> {
        if bytes.len() != Self::bytes(intensity) {
            return None;
        }
        let (key, voxels) = (take_u64(&mut bytes)?, take_u64(&mut bytes)?);
        let mut row = Self { key, voxels, ..Self::identity() };
        for sum in row.sums.iter_mut().chain(&mut row.products) {
            let (first, rest) = bytes.split_first_chunk()?;
            *sum = u128::from_le_bytes(*first);
            bytes = rest;
        }
        for corner in row.start.iter_mut().chain(&mut row.end) {
            *corner = take_u64(&mut bytes)?;
        }
        row.surface_faces = take_u64(&mut bytes)?;
        row.border_faces = take_u64(&mut bytes)?;
        if let Some(kind) = intensity {
            let (min_key, max_key) = (take_u64(&mut bytes)?, take_u64(&mut bytes)?);
            row.intensity = Some(Intensity { moments: Moments::decode(kind, bytes)?, min_key, max_key });
        }
        Some(row)
    }

    /// The mean position z, y, x of the voxels' centres, in voxel indices: each exact sum rounded once, then divided. NaN
    /// for a row without voxels.
    pub fn centroid(&self) -> [f64; 3] {
        self.sums.map(|sum| sum as f64 / self.voxels as f64)
    }

    /// The eigenvalues, descending, of the population covariance of the voxels' centres, for voxels of size `scale` along
    /// z, y, x, in its unit squared. None is negative. A planar object has its two first and 0 last.
    pub fn eigenvalues(&self, scale: [f64; 3]) -> [f64; 3] {
        let mut matrix = [[0.0; 3]; 3];
        for ((a, b), product) in PAIRS.into_iter().zip(self.products) {
            matrix[a][b] = covariance(self.voxels, self.sums[a], self.sums[b], product) * (scale[a] * scale[b]);
            matrix[b][a] = matrix[a][b];
        }
        // Rounding may leave an eigenvalue of a flat object just below zero.
        eigen::of_symmetric(matrix).map(|value| value.max(0.0))
    }
}

fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*first))
}

#[cfg(test)]
mod tests;
