//! Connected components: which foreground voxels of a box belong together.
//!
//! By runs along x and union-find over the runs, so the work follows the number of runs, not of voxels (He, Chao,
//! Suzuki, "A run-based two-scan labeling algorithm", 2008; Wu, Otoo, Suzuki, "Optimizing two-pass connected-component
//! labeling algorithms", 2009). Joining the labels of neighbouring boxes is left to [`seam`](crate::seam) and to the
//! label merge that uses it.

use crate::runs::{Run, Runs, count_foreground, of_foreground};
use crate::{AnyVolume, DisjointSets, Element, Region, Volume, with_volume};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Which voxels are neighbours, by the number of them. Written `6`, `18`, `26`.
///
/// A planar image needs no names of its own: in one z plane six neighbours are four, eighteen and twenty-six are eight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Connectivity {
    /// Voxels that share a face: `scipy.ndimage.generate_binary_structure(3, 1)`.
    #[default]
    Six,
    /// Voxels that share a face or an edge: `generate_binary_structure(3, 2)`.
    Eighteen,
    /// Voxels that share a face, an edge or a corner: `generate_binary_structure(3, 3)`.
    TwentySix,
}

impl Connectivity {
    /// Along how many axes two neighbours may differ: 1, 2 or 3 (scipy's `connectivity`).
    pub fn axes_max(self) -> usize {
        match self {
            Self::Six => 1,
            Self::Eighteen => 2,
            Self::TwentySix => 3,
        }
    }
}

impl From<Connectivity> for u8 {
    fn from(connectivity: Connectivity) -> u8 {
        match connectivity {
            Connectivity::Six => 6,
            Connectivity::Eighteen => 18,
            Connectivity::TwentySix => 26,
        }
    }
}

/// A number of neighbours that is none of 6, 18 and 26.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("connectivity is 6, 18 or 26, not {0}")]
pub struct NotAConnectivity(u8);

impl TryFrom<u8> for Connectivity {
    type Error = NotAConnectivity;

    fn try_from(neighbours: u8) -> Result<Self, NotAConnectivity> {
        match neighbours {
            6 => Ok(Self::Six),
            18 => Ok(Self::Eighteen),
            26 => Ok(Self::TwentySix),
            other => Err(NotAConnectivity(other)),
        }
    }
}

/// The connected components of the non-zero voxels of `region`, a box inside `input.region` with at most
/// [`VOXELS_MAX`](crate::runs::VOXELS_MAX) voxels (panics otherwise).
///
/// Labels are 1 to n by first voxel in C order, as `scipy.ndimage.label` numbers them. NaN is foreground: it is not zero.
///
/// ```
/// use voxel::label::{Connectivity, label};
/// use voxel::{Region, Volume};
/// let corners = Volume::new(Region::whole([1, 2, 4]), vec![1u8, 0, 1, 1, 0, 1, 0, 0]);
/// let found = label(&corners.clone().into(), corners.region, Connectivity::Six);
/// assert_eq!(found.paint(|label| label).data, [1, 0, 2, 2, 0, 3, 0, 0]);
/// let found = label(&corners.clone().into(), corners.region, Connectivity::TwentySix);
/// assert_eq!(found.paint(|label| label).data, [1, 0, 1, 1, 0, 1, 0, 0]);
/// ```
pub fn label(input: &AnyVolume, region: Region, connectivity: Connectivity) -> Runs {
    with_volume!(input, volume => label_typed(volume, region, connectivity))
}

/// Bytes that [`label`] allocates at most, its result included (the input is the caller's): when every other voxel of
/// each row is foreground.
pub fn peak_bytes(region: Region) -> usize {
    let [depth, height, width] = region.shape();
    let (rows, member) = (depth * height, size_of::<u32>());
    rows * width.div_ceil(2) * (size_of::<Run>() + member) + (rows + 1) * size_of::<u32>()
}

fn label_typed<T: Element>(input: &Volume<T>, region: Region, connectivity: Connectivity) -> Runs {
    let rows = count_foreground(input, region);
    let runs = of_foreground(input, region, &rows);
    let mut found = Runs { region, rows, runs, labels: 0 };
    let mut sets = join_neighbours(&found, connectivity);
    for i in 0..found.runs.len() {
        // A set's root is its first run, so its label is there before any other run of the set asks for it.
        let root = sets.find(i as u32) as usize;
        found.runs[i].label = if root == i {
            found.labels += 1;
            found.labels
        } else {
            found.runs[root].label
        };
    }
    found
}

/// The sets of runs (by index in `found.runs`) that touch.
fn join_neighbours(found: &Runs, connectivity: Connectivity) -> DisjointSets {
    let [depth, height, _] = found.region.shape();
    let mut sets = DisjointSets::new(found.runs.len() as u32);
    for z in 0..depth {
        for y in 0..height {
            let row = found.row_range(z, y);
            if row.is_empty() {
                continue;
            }
            // The four rows around this one that come before it in C order: each pair of rows is met once.
            for (dz, dy) in [(0, -1), (-1, -1), (-1, 0), (-1, 1)] {
                let differing = usize::from(dz != 0) + usize::from(dy != 0);
                let Some(reach) = connectivity.axes_max().checked_sub(differing) else { continue };
                let (Some(z), Some(y)) = (z.checked_add_signed(dz), y.checked_add_signed(dy)) else { continue };
                if y < height {
                    // An axis is left over: x may differ by one as well.
                    join_rows(&mut sets, &found.runs, found.row_range(z, y), row.clone(), reach.min(1) as u32);
                }
            }
        }
    }
    sets
}

/// Joins the runs of two rows that overlap, or whose ends are at most `reach` voxels apart along x.
fn join_rows(sets: &mut DisjointSets, runs: &[Run], mut a: Range<usize>, mut b: Range<usize>, reach: u32) {
    while a.start < a.end && b.start < b.end {
        let (run_a, run_b) = (runs[a.start], runs[b.start]);
        if run_a.x < run_b.end() + reach && run_b.x < run_a.end() + reach {
            sets.union(a.start as u32, b.start as u32);
        }
        // At least one background voxel follows the run that ends first, so it reaches no later run of the other row.
        if run_a.end() < run_b.end() {
            a.start += 1;
        } else {
            b.start += 1;
        }
    }
}

#[cfg(test)]
mod tests;
