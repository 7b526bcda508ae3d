//! Seams: which labels meet across the face two blocks share.
//!
//! The pure kernel of the label merge's second step. Which planes face each other, and what the numbers in them stand
//! for, is left to the caller.

use crate::label::Connectivity;
use crate::varint;

/// Pairs are sorted and freed of duplicates no sooner than when this many new ones have come together.
const PAIRS_BETWEEN_SORTS: usize = 1 << 16;

/// A layer of voxels one voxel thick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plane<T> {
    /// Voxels along the two in-plane axes, in z, y, x order.
    pub shape: [usize; 2],
    /// One value per voxel in C order; 0 where there is nothing.
    pub data: Vec<T>,
}

impl<T> Plane<T> {
    fn row(&self, row: usize) -> &[T] {
        &self.data[row * self.shape[1]..(row + 1) * self.shape[1]]
    }
}

impl<T: Copy + Into<u64> + TryFrom<u64>> Plane<T> {
    /// Appends the values as stretches of equal ones: the length of each and its value, as varints. The shape is not
    /// written: whoever decodes knows which seam it asked for.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let values = || self.data.iter().map(|v| (*v).into());
        let mut rest = values().peekable();
        while let Some(value) = rest.next() {
            let mut len = 1;
            while rest.next_if_eq(&value).is_some() {
                len += 1;
            }
            varint::push(len, out);
            varint::push(value, out);
        }
    }

    /// The plane of that shape from what [`Plane::encode`] wrote, all of `bytes`. `None` when the stretches don't fill
    /// the plane exactly or a value doesn't fit `T`.
    pub fn decode(shape: [usize; 2], mut bytes: &[u8]) -> Option<Self> {
        let voxels = shape[0].checked_mul(shape[1])?;
        let mut data = Vec::with_capacity(voxels);
        while !bytes.is_empty() {
            let len = usize::try_from(varint::take(&mut bytes)?).ok()?;
            let value = T::try_from(varint::take(&mut bytes)?).ok()?;
            if len == 0 || len > voxels - data.len() {
                return None;
            }
            data.resize(data.len() + len, value);
        }
        (data.len() == voxels).then_some(Self { shape, data })
    }
}

/// The distinct pairs of a non-zero value of `low` and a non-zero value of `high` whose voxels are neighbours across the
/// seam, sorted.
///
/// `low` is the last layer before the seam, `high` the first after it with a rim of one voxel on all four sides: voxel
/// (i, j) of `low` faces voxel (i + 1, j + 1) of `high`. Its neighbours across the seam are that one (6), those one
/// step from it along one in-plane axis (18), and the diagonal ones (26).
///
/// Only `high` has a rim, so that each voxel of `low` is looked at by the one seam tile that holds it. Where a pair
/// belongs to the seam of an earlier axis, the caller leaves that part of the rim 0.
///
/// There are at most 1, 5 or 9 pairs per voxel of `low`; [`facing_pairs_peak_bytes`] says what that takes.
///
/// ```
/// use voxel::label::Connectivity;
/// use voxel::seam::{Plane, facing_pairs};
/// let low = Plane { shape: [1, 2], data: vec![7, 0] };
/// let high = Plane { shape: [3, 4], data: vec![40, 0, 0, 0, 0, 10, 20, 0, 0, 0, 0, 30] };
/// assert_eq!(facing_pairs(&low, &high, Connectivity::Six), [(7, 10)]);
/// assert_eq!(facing_pairs(&low, &high, Connectivity::Eighteen), [(7, 10), (7, 20)]);
/// assert_eq!(facing_pairs(&low, &high, Connectivity::TwentySix), [(7, 10), (7, 20), (7, 40)]);
/// ```
///
/// # Panics
///
/// When `high` is not two voxels larger than `low` along both axes.
pub fn facing_pairs(low: &Plane<u32>, high: &Plane<u64>, connectivity: Connectivity) -> Vec<(u32, u64)> {
    assert_eq!(high.shape, low.shape.map(|voxels| voxels + 2), "the high plane has a rim of one voxel");
    let pushes_max = low.data.len() * steps(connectivity).count();
    let mut pairs = Pairs { pairs: Vec::new(), pushes_max };
    for i in 0..low.shape[0] {
        let low_row = low.row(i);
        for (di, dj) in steps(connectivity) {
            let high_row = &high.row(i + di)[dj..dj + low.shape[1]];
            // Along a row the same two objects face each other many times in a stretch.
            let mut last = (0, 0);
            for (a, b) in low_row.iter().zip(high_row) {
                if *a != 0 && *b != 0 && (*a, *b) != last {
                    last = (*a, *b);
                    pairs.push(last);
                }
            }
        }
    }
    pairs.sort();
    pairs.pairs
}

/// The offsets, 0 to 2 along each in-plane axis and 1 being straight across, of the neighbours in the high plane.
fn steps(connectivity: Connectivity) -> impl Iterator<Item = (usize, usize)> {
    let in_plane = connectivity.axes_max() - 1;
    (0..9usize).map(|step| (step / 3, step % 3)).filter(move |(di, dj)| di.abs_diff(1) + dj.abs_diff(1) <= in_plane)
}

/// Bytes that [`facing_pairs`] allocates at most, its result included: while its list of pairs, as long as it can get,
/// moves to a larger place. Real planes stay far below, as objects face each other over more than one voxel.
pub fn facing_pairs_peak_bytes(low: [usize; 2], connectivity: Connectivity) -> usize {
    2 * size_of::<(u32, u64)>() * low[0] * low[1] * steps(connectivity).count()
}

/// A set of pairs, sorted whenever its room is used up rather than hashed.
struct Pairs {
    pairs: Vec<(u32, u64)>,
    /// No more pairs than this are ever pushed.
    pushes_max: usize,
}

impl Pairs {
    fn push(&mut self, pair: (u32, u64)) {
        if self.pairs.len() == self.pairs.capacity() {
            self.make_room();
        }
        self.pairs.push(pair);
    }

    fn make_room(&mut self) {
        self.sort();
        // Room for as many new pairs as there are distinct ones keeps the sorting to n log n in all.
        let distinct = self.pairs.len();
        self.pairs.reserve_exact(distinct.max(PAIRS_BETWEEN_SORTS).min(self.pushes_max - distinct));
    }

    fn sort(&mut self) {
        self.pairs.sort_unstable();
        self.pairs.dedup();
    }
}

#[cfg(test)]
mod tests;
