//! The inner loop of counting: a table of small counters, widened before any can overflow.

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
