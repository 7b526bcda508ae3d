//! Which objects touch: for each two labels, how many of their voxels are neighbours.
//!
//! Counts of the blocks of an image add up to those of the whole: a pair of voxels belongs to the block that holds the
//! first of them in C order. Adding them up over an image is left to whoever reads blocks.

use std::collections::HashMap;

use crate::label::Connectivity;
use crate::{AnyVolume, Element, Extent, Region, Volume, with_volume};

/// How two labels touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Contact {
    /// [`key`](Element::key) of the smaller label.
    pub a: u64,
    /// [`key`](Element::key) of the larger label.
    pub b: u64,
    /// Voxel faces they share.
    pub faces: u64,
    /// Pairs of voxels, one of each, that are neighbours.
    pub pairs: u64,
}

/// Bytes that [`contacts`] holds at most, for `at_once` contacts: a hash table that may be half empty, and the sorted
/// list made of it.
pub fn peak_bytes(at_once: usize) -> usize {
    let entry = size_of::<(u64, u64)>() * 2 + 1;
    at_once * (entry * 16 / 7 + size_of::<Contact>())
}

/// Finds the contacts of the voxels of `region` with any neighbour that comes later in C order.
///
/// `labels` covers the region grown by one voxel, clipped to the image; 0 (and NaN, which is no label) is background and
/// touches nothing. `leave` is given the contacts sorted by labels, `at_once` at most, and is called again where there
/// are more: the same two labels may then appear several times.
///
/// # Errors
/// Whatever `leave` fails with.
pub fn contacts<E>(
    labels: &AnyVolume,
    region: Region,
    extent: Extent,
    connectivity: Connectivity,
    at_once: usize,
    leave: impl FnMut(Vec<Contact>) -> Result<(), E>,
) -> Result<(), E> {
    with_volume!(labels, labels => typed(labels, region, extent, connectivity, at_once, leave))
}

/// Offsets to the neighbours that come later in C order, and along how many axes each differs.
fn later_neighbours(connectivity: Connectivity) -> Vec<([isize; 3], usize)> {
    let offsets = (0..27).map(|i: isize| [i / 9 - 1, i / 3 % 3 - 1, i % 3 - 1]);
    offsets
        .filter(|offset| *offset > [0; 3])
        .map(|offset| (offset, offset.iter().filter(|d| **d != 0).count()))
        .filter(|(_, axes)| *axes <= connectivity.axes_max())
        .collect()
}

fn typed<T: Element, E>(
    labels: &Volume<T>,
    region: Region,
    extent: Extent,
    connectivity: Connectivity,
    at_once: usize,
    mut leave: impl FnMut(Vec<Contact>) -> Result<(), E>,
) -> Result<(), E> {
    let mut found: HashMap<(u64, u64), [u64; 2]> = HashMap::new();
    let x0 = labels.region.start[2];
    for z in region.start[0]..region.end[0] {
        for y in region.start[1]..region.end[1] {
            let row = labels.row(z, y);
            for ([dz, dy, dx], axes) in later_neighbours(connectivity) {
                let (Some(nz), Some(ny)) = (z.checked_add_signed(dz), y.checked_add_signed(dy)) else { continue };
                if nz >= extent.shape[0] || ny >= extent.shape[1] {
                    continue;
                }
                let other = labels.row(nz, ny);
                // The last pair is nearly always the next one, too: faces are wide.
                let (mut last, mut run) = (None, 0);
                let mut count = |pair: Option<(u64, u64)>, run: u64| {
                    if let Some(pair) = pair {
                        let [faces, pairs] = found.entry(pair).or_default();
                        *faces += if axes == 1 { run } else { 0 };
                        *pairs += run;
                    }
                };
                for x in region.start[2]..region.end[2] {
                    let Some(nx) = x.checked_add_signed(dx).filter(|nx| *nx < extent.shape[2]) else { continue };
                    let (one, two) = (row[x - x0], other[nx - x0]);
                    if one == two || !one.is_foreground() || !two.is_foreground() {
                        continue;
                    }
                    let (one, two) = (one.key(), two.key());
                    let pair = Some((one.min(two), one.max(two)));
                    if pair != last {
                        count(last, run);
                        (last, run) = (pair, 0);
                    }
                    run += 1;
                }
                count(last, run);
            }
            // A row adds at most thirteen contacts a voxel; between rows is often enough to look.
            if found.len() >= at_once {
                leave(sorted(&mut found))?;
            }
        }
    }
    if found.is_empty() { Ok(()) } else { leave(sorted(&mut found)) }
}

fn sorted(found: &mut HashMap<(u64, u64), [u64; 2]>) -> Vec<Contact> {
    let mut contacts: Vec<Contact> =
        found.drain().map(|((a, b), [faces, pairs])| Contact { a, b, faces, pairs }).collect();
    contacts.sort_unstable();
    contacts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    fn of(labels: &AnyVolume, region: Region, connectivity: Connectivity, at_once: usize) -> Vec<Contact> {
        let extent = Extent { shape: labels.region().shape(), planar: false };
        let mut all: BTreeMap<(u64, u64), (u64, u64)> = BTreeMap::new();
        let add = |some: Vec<Contact>| {
            assert!(some.is_sorted());
            for c in some {
                let sum = all.entry((c.a, c.b)).or_default();
                *sum = (sum.0 + c.faces, sum.1 + c.pairs);
            }
            Ok::<_, Infallible>(())
        };
        contacts(labels, region, extent, connectivity, at_once, add).unwrap();
        all.into_iter().map(|((a, b), (faces, pairs))| Contact { a, b, faces, pairs }).collect()
    }

    /// Every two voxels of the image are looked at.
    fn slowly(labels: &Volume<i16>, connectivity: Connectivity) -> Vec<Contact> {
        let extent = Extent { shape: labels.region.shape(), planar: false };
        let mut all: BTreeMap<(u64, u64), (u64, u64)> = BTreeMap::new();
        for i in 0..labels.data.len() {
            for j in i + 1..labels.data.len() {
                let (p, q) = (extent.at(i as u64), extent.at(j as u64));
                let apart: Vec<usize> = (0..3).map(|a| p[a].abs_diff(q[a])).collect();
                let axes = apart.iter().filter(|d| **d > 0).count();
                let (one, two) = (labels.data[i], labels.data[j]);
                if apart.iter().all(|d| *d <= 1)
                    && axes <= connectivity.axes_max()
                    && one != two
                    && one != 0
                    && two != 0
                {
                    let (a, b) = (one.min(two), one.max(two));
                    let sum = all.entry((a.key(), b.key())).or_default();
                    *sum = (sum.0 + u64::from(axes == 1), sum.1 + 1);
                }
            }
        }
        all.into_iter().map(|((a, b), (faces, pairs))| Contact { a, b, faces, pairs }).collect()
    }

    proptest! {
        #[test]
        fn contacts_of_blocks_add_up_to_those_of_all_pairs(
            shape in [1usize..5, 1usize..6, 1usize..7],
            values in prop::collection::vec(-2i16..3, 150),
            cut in 1usize..4,
            at_once in 1usize..6,
        ) {
            let whole = Region::whole(shape);
            let labels = Volume::new(whole, values[..whole.voxels()].to_vec());
            let any: AnyVolume = labels.clone().into();
            for connectivity in [Connectivity::Six, Connectivity::Eighteen, Connectivity::TwentySix] {
                let expected = slowly(&labels, connectivity);
                prop_assert_eq!(of(&any, whole, connectivity, 1 << 20), expected.clone());
                prop_assert_eq!(of(&any, whole, connectivity, at_once), expected.clone());
                let mut sums: BTreeMap<(u64, u64), (u64, u64)> = BTreeMap::new();
                for x in (0..shape[2]).step_by(cut) {
                    let block = Region { start: [0, 0, x], end: [shape[0], shape[1], (x + cut).min(shape[2])] };
                    for c in of(&any, block, connectivity, 1 << 20) {
                        let sum = sums.entry((c.a, c.b)).or_default();
                        *sum = (sum.0 + c.faces, sum.1 + c.pairs);
                    }
                }
                let sums: Vec<Contact> =
                    sums.into_iter().map(|((a, b), (faces, pairs))| Contact { a, b, faces, pairs }).collect();
                prop_assert_eq!(sums, expected);
            }
        }
    }
}
