//! Runs: the labelled voxels of a box, as stretches along x.
//!
//! What labelling gives and what everything after it works on: object statistics, the seams, the final painting of
//! labels. A run costs twelve bytes however long it is, so the labels of a block are far smaller than its voxels.
//! How runs get their labels is [`label`](crate::label)'s affair.

mod codec;
mod scan;

pub(crate) use scan::{count_foreground, of_foreground};
pub use scan::{of_values, of_values_peak_bytes};

use crate::{Region, Volume};
use std::ops::Range;

/// The largest number of voxels in a box that can be turned into [`Runs`], which count in 32 bits.
pub const VOXELS_MAX: usize = u32::MAX as usize;

/// Neighbouring voxels of one object along x.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First voxel, counted from `region.start[2]`.
    pub x: u32,
    /// Number of voxels, at least 1.
    pub len: u32,
    /// The object, 1 to [`Runs::labels`].
    pub label: u32,
}

impl Run {
    /// One past the last voxel, counted from `region.start[2]`.
    #[inline(always)]
    pub fn end(&self) -> u32 {
        self.x + self.len
    }
}

/// The labelled voxels of `region`, in C order; voxels in no run are background.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runs {
    /// The box, at most [`VOXELS_MAX`] voxels.
    pub region: Region,
    /// Where each row's runs start in `runs`: one entry per (z, y) in C order, and the number of runs at the end.
    pub rows: Vec<u32>,
    /// The runs, ordered by z, y, x; never overlapping.
    pub runs: Vec<Run>,
    /// The number of labels: each of 1 to `labels` occurs.
    pub labels: u32,
}

impl Runs {
    /// Indices in `runs` of the runs of one row; `z` and `y` count from the region's start.
    #[inline(always)]
    pub(crate) fn row_range(&self, z: usize, y: usize) -> Range<usize> {
        let row = z * (self.region.end[1] - self.region.start[1]) + y;
        self.rows[row] as usize..self.rows[row + 1] as usize
    }

    /// The runs of each row in C order, with the z and y of the row in image coordinates.
    pub fn by_row(&self) -> impl Iterator<Item = (usize, usize, &[Run])> {
        let [_, height, _] = self.region.shape();
        self.rows.windows(2).enumerate().map(move |(row, ends)| {
            let (z, y) = (self.region.start[0] + row / height, self.region.start[1] + row % height);
            (z, y, &self.runs[ends[0] as usize..ends[1] as usize])
        })
    }

    /// Bytes held by `rows` and `runs`.
    pub fn bytes(&self) -> usize {
        self.rows.capacity() * size_of::<u32>() + self.runs.capacity() * size_of::<Run>()
    }

    /// The dense picture of the runs: `value(label)` where there is an object, 0 elsewhere. `value` is asked once a run.
    pub fn paint<T: Copy + Default>(&self, value: impl Fn(u32) -> T) -> Volume<T> {
        self.paint_part(self.region, value)
    }

    /// [`Runs::paint`] of a part of the region.
    ///
    /// # Panics
    /// When the part reaches beyond the region.
    pub fn paint_part<T: Copy + Default>(&self, part: Region, value: impl Fn(u32) -> T) -> Volume<T> {
        assert!(self.region.contains(&part), "{part:?} lies in {:?}", self.region);
        let mut out = Volume::zeros(part);
        let [first_z, first_y, first_x] = self.region.start;
        let (start, end) = ((part.start[2] - first_x) as u32, (part.end[2] - first_x) as u32);
        for z in part.start[0]..part.end[0] {
            for y in part.start[1]..part.end[1] {
                let runs = &self.runs[self.row_range(z - first_z, y - first_y)];
                let runs = if start > 0 { &runs[runs.partition_point(|run| run.end() <= start)..] } else { runs };
                if runs.is_empty() {
                    continue;
                }
                let row = out.row_mut(z, y);
                for run in runs.iter().take_while(|run| run.x < end) {
                    let (from, to) = (run.x.max(start) - start, run.end().min(end) - start);
                    row[from as usize..to as usize].fill(value(run.label));
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests;
