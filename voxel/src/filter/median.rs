//! The median of a window, for every element type, by order-preserving keys.
//!
//! Three ways, one answer. Small windows go through selection networks whose wires are lanes of neighbouring x: no
//! branches, and what windows have in common is sorted once (`shared`). Bigger windows of bytes slide a histogram along
//! x. What is left picks the middle of a copy of the window.

mod network;
mod shared;
mod straight;

use super::Boundary;
use super::keyed::Keyed;
use crate::simd::vectorised;
use crate::{AnyVolume, Dtype, Extent, Region, Volume, with_volume};
use serde::{Deserialize, Serialize};

/// Largest window that goes through networks, in voxels. On noise, at 5 x 5 x 5, they are several times as fast as the
/// histogram is for u8, and as picking from a copy is for the rest (x86-64 with AVX2).
const NETWORK_MAX: usize = 125;

/// A median filter: `scipy.ndimage.median_filter` with a centred box. The type stays; NaN sorts last.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Median {
    /// Window along z, y, x in voxels, odd widths.
    pub size: [usize; 3],
    /// What lies beyond the image; a constant is cast to the element type.
    pub boundary: Boundary,
}

impl Median {
    /// How far the filter looks along z, y, x, in voxels.
    pub fn halo(&self) -> [usize; 3] {
        self.size.map(|width| width / 2)
    }

    /// The median of the window around each voxel of `out`. `input` holds `out` grown by the halo and clipped to
    /// `extent`, or more.
    pub fn apply(&self, input: AnyVolume, out: Region, extent: Extent) -> AnyVolume {
        if self.size == [1; 3] {
            return input.into_cropped(out);
        }
        with_volume!(input, v => self.filtered(&v, out, extent).into())
    }

    /// The most bytes of voxels alive at once in [`Median::apply`], input, output and temporaries counted.
    pub fn peak_bytes(&self, dtype: Dtype, input: Region, out: Region) -> usize {
        let read = input.voxels() * dtype.size();
        if self.size == [1; 3] {
            return if input == out { read } else { read + out.voxels() * dtype.size() };
        }
        let temporary = if self.by_network() {
            let lanes = shared::lanes(dtype);
            shared::Sizes::new(self.size, lanes, out.shape()[2]).keys(lanes)
        } else {
            Window::new(self, out).lines_len()
        };
        read + (out.voxels() + temporary) * dtype.size()
    }

    fn by_network(&self) -> bool {
        self.size.iter().product::<usize>() <= NETWORK_MAX
    }

    fn filtered<T: Keyed>(&self, input: &Volume<T>, out: Region, extent: Extent) -> Volume<T> {
        let mut output = Volume::zeros(out);
        let window = Window::new(self, out);
        if self.by_network() {
            shared::medians(self, input, &mut output, extent);
        } else if T::BITS == 8 {
            window
                .slide(self.boundary, input, &mut output, extent, |lines, out| histogram_medians(&window, lines, out));
        } else {
            let mut copy = Vec::with_capacity(self.size.iter().product());
            window.slide(self.boundary, input, &mut output, extent, |lines, out| {
                picked_medians(&window, lines, &mut copy, out);
            });
        }
        output
    }
}

/// The rows under the windows of one output row, as keys: `columns` lines, each extended beyond the image along x.
struct Window {
    /// Widths along z, y, x.
    size: [usize; 3],
    /// Lines under one window: its height times its depth. Their order is of no matter to a median.
    columns: usize,
    /// Voxels of one line: an output row and the halo on both sides.
    line: usize,
}

impl Window {
    fn new(median: &Median, out: Region) -> Self {
        Self { size: median.size, columns: median.size[0] * median.size[1], line: out.shape()[2] + median.size[2] - 1 }
    }

    fn lines_len(&self) -> usize {
        self.columns * self.line
    }

    /// Calls `each` for every output row with the lines under it. Along y each line is read and turned into keys once
    /// per z of the window; its place among the lines is its y modulo the window's height.
    fn slide<T: Keyed>(
        &self,
        boundary: Boundary,
        input: &Volume<T>,
        output: &mut Volume<T>,
        extent: Extent,
        mut each: impl FnMut(&[T::Key], &mut [T]),
    ) {
        let out = output.region;
        let [depth, height, _] = self.size;
        let [first_z, first_y, first_x] = std::array::from_fn(|a| out.start[a] as isize - (self.size[a] / 2) as isize);
        let constant = if let Boundary::Constant(value) = boundary { T::from_f64(value) } else { T::default() };
        let mut lines = vec![T::Key::default(); self.lines_len()];
        for z in 0..out.shape()[0] {
            let mut loaded = 0;
            for y in 0..out.shape()[1] {
                while loaded < y + height {
                    let from_y = boundary.index(first_y + loaded as isize, extent.shape[1]);
                    for dz in 0..depth {
                        let from_z = boundary.index(first_z + (z + dz) as isize, extent.shape[0]);
                        let line = &mut lines[(loaded % height * depth + dz) * self.line..][..self.line];
                        match (from_z, from_y) {
                            (Some(from_z), Some(from_y)) => {
                                let row = input.row(from_z, from_y);
                                let (start, n) = (input.region.start[2], extent.shape[2]);
                                load_keys(row, start, n, first_x, line, boundary, constant);
                            }
                            _ => line.fill(constant.to_key()),
                        }
                    }
                    loaded += 1;
                }
                each(&lines, output.row_mut(out.start[0] + z, out.start[1] + y));
            }
        }
    }
}

vectorised! {
    fn load_keys<T: Keyed>(
        row: &[T], start: usize, n: usize, first: isize, line: &mut [T::Key], boundary: Boundary, constant: T,
    ) {
        boundary.extend_row(row, start, n, first, line, constant.to_key(), T::to_key);
    }
}

/// The running histogram of Huang, Yang and Tang (1979): moving one voxel along x exchanges one column, and the median
/// moves from bin to bin until as many keys lie below it as must.
fn histogram_medians<T: Keyed>(window: &Window, lines: &[T::Key], out: &mut [T]) {
    let width = window.size[2];
    let key = |c: usize, x: usize| -> usize { Into::<u64>::into(lines[c * window.line + x]) as usize };
    let rank = window.columns * width / 2;
    let mut counts = [0usize; 256];
    // `below` is the number of keys in the window that are less than `median`.
    let (mut median, mut below) = (0, 0);
    for x in 0..width - 1 {
        for c in 0..window.columns {
            counts[key(c, x)] += 1;
            below += usize::from(key(c, x) < median);
        }
    }
    for (x, out) in out.iter_mut().enumerate() {
        for c in 0..window.columns {
            let entering = key(c, x + width - 1);
            counts[entering] += 1;
            below += usize::from(entering < median);
        }
        while below > rank {
            median -= 1;
            below -= counts[median];
        }
        while below + counts[median] <= rank {
            below += counts[median];
            median += 1;
        }
        *out = T::from_key(median as u64);
        for c in 0..window.columns {
            let leaving = key(c, x);
            counts[leaving] -= 1;
            below -= usize::from(leaving < median);
        }
    }
}

/// Picks the middle of a copy of each window.
fn picked_medians<T: Keyed>(window: &Window, lines: &[T::Key], copy: &mut Vec<T::Key>, out: &mut [T]) {
    let width = window.size[2];
    for (x, out) in out.iter_mut().enumerate() {
        copy.clear();
        for line in lines.chunks_exact(window.line) {
            copy.extend_from_slice(&line[x..x + width]);
        }
        let rank = copy.len() / 2;
        *out = T::of_key(*copy.select_nth_unstable(rank).1);
    }
}

#[cfg(test)]
mod tests;
