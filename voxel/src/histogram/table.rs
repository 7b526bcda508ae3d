//! The inner loop of counting: a table of small counters, widened before any can overflow.

use crate::Element;

/// Counts by an index below `SIZE`.
///
/// Neighbouring voxels go to different copies of the table (`LANES`), so that a run of equal values does not wait for
/// its own last increment; 32-bit counters keep the copies within the second-level cache.
pub(super) struct Table<const SIZE: usize, const LANES: usize> {
    lanes: Vec<[u32; SIZE]>,
    pending: usize,
    totals: Vec<u64>,
}

/// Increments after which no 32-bit counter can have overflowed.
const PENDING_MAX: usize = u32::MAX as usize;

impl<const SIZE: usize, const LANES: usize> Table<SIZE, LANES> {
    pub(super) fn new() -> Self {
        Self { lanes: vec![[0; SIZE]; LANES], pending: 0, totals: vec![0; SIZE] }
    }

    /// Counts every voxel of a run at `index(voxel)`, which is taken modulo `SIZE` (a power of two).
    #[inline(always)]
    pub(super) fn count<T: Copy>(&mut self, run: &[T], index: impl Fn(T) -> usize) {
        for part in run.chunks(PENDING_MAX) {
            if self.pending > PENDING_MAX - part.len() {
                self.settle();
            }
            self.pending += part.len();
            let (groups, rest) = part.as_chunks::<LANES>();
            for group in groups {
                for (lane, v) in self.lanes.iter_mut().zip(group) {
                    lane[index(*v) % SIZE] += 1;
                }
            }
            for (lane, v) in self.lanes.iter_mut().zip(rest) {
                lane[index(*v) % SIZE] += 1;
            }
        }
    }

    /// The counts so far.
    pub(super) fn into_totals(mut self) -> Vec<u64> {
        self.settle();
        self.totals
    }

    fn settle(&mut self) {
        for lane in &mut self.lanes {
            for (total, count) in self.totals.iter_mut().zip(lane.iter_mut()) {
                *total += u64::from(std::mem::take(count));
            }
        }
        self.pending = 0;
    }
}

/// Counts of voxels of 8 bits by [`Element::key`].
///
/// They are counted two at a time, by both of their values: half as many increments, of which neighbours seldom wait for each
/// other. One core of an AMD EPYC of family 26 counted 1.4 (all values equally often) to 1.5 times (a noisy image) as many
/// bytes a second as with four tables of single values, though the counters fill a quarter of the second-level cache.
pub(super) struct Pairs {
    /// By the second value of a pair times 256, plus the first.
    counts: Vec<u32>,
    pending: usize,
    /// By the value as a byte.
    totals: [u64; 256],
}

impl Pairs {
    pub(super) fn new() -> Self {
        Self { counts: vec![0; 1 << 16], pending: 0, totals: [0; 256] }
    }

    /// Counts every voxel of a run.
    pub(super) fn count<T: Element>(&mut self, run: &[T]) {
        debug_assert_eq!(T::BITS, 8, "voxels are bytes");
        for part in T::le_bytes(run).chunks(PENDING_MAX) {
            if self.pending > PENDING_MAX - part.len() {
                self.settle();
            }
            self.pending += part.len();
            let (words, rest) = part.as_chunks();
            for word in words {
                let mut word = u64::from_le_bytes(*word);
                for _ in 0..4 {
                    self.counts[usize::from(word as u16)] += 1;
                    word >>= 16;
                }
            }
            for byte in rest {
                self.totals[usize::from(*byte)] += 1;
            }
        }
    }

    /// The counts so far, by the keys of `T`.
    pub(super) fn into_totals<T: Element>(mut self) -> Vec<u64> {
        self.settle();
        let mut by_key = vec![0; self.totals.len()];
        for (value, total) in T::from_ne((0..=u8::MAX).collect::<Vec<u8>>().into()).into_iter().zip(self.totals) {
            by_key[value.key() as usize] += total;
        }
        by_key
    }

    fn settle(&mut self) {
        for (second, counts) in self.counts.chunks_exact_mut(256).enumerate() {
            let all: u64 = counts.iter().map(|count| u64::from(*count)).sum();
            if all > 0 {
                self.totals[second] += all;
                self.totals.iter_mut().zip(&*counts).for_each(|(total, count)| *total += u64::from(*count));
                counts.fill(0);
            }
        }
        self.pending = 0;
    }
}
