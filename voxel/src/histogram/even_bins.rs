//! The second pass, once the range is known: bins of equal width.

use crate::{AnyVolume, Element, Region, with_volume};

use super::codec::{put_counts, put_u64, take_counts, take_u64};
use super::otsu::otsu_even;

/// Counts of finite voxels in `n` bins of equal width over `[lo, hi]`, by the rule of `numpy.histogram` on f64.
///
/// A bin holds `edge(i) <= v < edge(i + 1)`, the last one its upper edge too. Voxels outside `[lo, hi]` are left out. All
/// arithmetic is in f64; an image of one value gets bins over half a unit to either side, as numpy's does.
#[derive(Clone, Debug, PartialEq)]
pub struct EvenBins {
    lo: f64,
    hi: f64,
    counts: Vec<u64>,
}

impl EvenBins {
    /// Empty bins; `None` unless `lo <= hi`, both finite, and `bins` is between 1 and 2^24.
    pub fn new(lo: f64, hi: f64, bins: usize) -> Option<Self> {
        let valid = lo.is_finite() && hi.is_finite() && lo <= hi && (1..=1 << 24).contains(&bins);
        valid.then(|| Self { lo, hi, counts: vec![0; bins] })
    }

    /// The range the bins were made for.
    pub fn range(&self) -> (f64, f64) {
        (self.lo, self.hi)
    }

    /// One count per bin.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Lower edge of the first bin, and the width of one.
    pub fn start_and_width(&self) -> (f64, f64) {
        let ruler = self.ruler();
        (ruler.edge(0) / ruler.scale, ruler.step / ruler.scale)
    }

    /// Adds the voxels of `part`, which must lie inside the volume.
    ///
    /// # Panics
    ///
    /// When the volume does not contain `part`.
    pub fn add(&mut self, volume: &AnyVolume, part: Region) {
        with_volume!(volume, v => v.runs(part).for_each(|run| self.add_run(run)));
    }

    fn add_run<T: Element>(&mut self, run: &[T]) {
        let ruler = self.ruler();
        for v in run.iter().map(|v| v.to_f64()) {
            // False for NaN and the infinities.
            if self.lo <= v && v <= self.hi {
                self.counts[ruler.bin(v)] += 1;
            }
        }
    }

    /// Takes in what `other` has counted. Associative and commutative, with empty bins as identity.
    ///
    /// # Panics
    ///
    /// When the bins differ.
    pub fn merge(&mut self, other: &Self) {
        let bins = |of: &Self| (of.lo.to_bits(), of.hi.to_bits(), of.counts.len());
        assert_eq!(bins(self), bins(other), "the same bins");
        self.counts.iter_mut().zip(&other.counts).for_each(|(own, other)| *own = own.wrapping_add(*other));
    }

    /// Otsu's threshold on 256 bins over the range, into which finer ones are joined when they are a multiple of 256; other
    /// numbers of bins are taken as they are. `None` when nothing was counted.
    ///
    /// Joining a power-of-two multiple gives the counts that 256 bins would have had: all edges of the coarse bins are
    /// edges of the fine ones, to the bit.
    pub fn otsu(&self) -> Option<f64> {
        let group = if self.counts.len().is_multiple_of(256) { self.counts.len() / 256 } else { 1 };
        let join = |bins: &[u64]| bins.iter().fold(0u64, |sum, count| sum.wrapping_add(*count));
        let joined: Vec<u64> = self.counts.chunks(group).map(join).collect();
        otsu_even(self.lo, self.hi, &joined)
    }

    /// Appends the bins as bytes: equal bins give equal bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u64(self.lo.to_bits(), out);
        put_u64(self.hi.to_bits(), out);
        put_u64(self.counts.len() as u64, out);
        put_counts(&self.counts, out);
    }

    /// Reads what [`EvenBins::encode`] wrote; `None` for anything else.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let rest = &mut bytes;
        let (lo, hi) = (f64::from_bits(take_u64(rest)?), f64::from_bits(take_u64(rest)?));
        let length = usize::try_from(take_u64(rest)?).ok()?;
        let counts = take_counts(length, rest)?;
        (rest.is_empty() && Self::new(lo, hi, length).is_some()).then_some(Self { lo, hi, counts })
    }

    fn ruler(&self) -> Ruler {
        Ruler::new(self.lo, self.hi, self.counts.len())
    }
}

/// Where the edges of even bins lie. All lengths are in units of `1 / scale`.
#[derive(Clone, Copy)]
pub(super) struct Ruler {
    lo: f64,
    hi: f64,
    bins: usize,
    step: f64,
    /// 1, or 1/2 for a range so wide that `hi - lo` would overflow.
    pub(super) scale: f64,
}

impl Ruler {
    pub(super) fn new(lo: f64, hi: f64, bins: usize) -> Self {
        let (lo, hi) = if lo == hi { (lo - 0.5, hi + 0.5) } else { (lo, hi) };
        let scale = if (hi - lo).is_finite() { 1.0 } else { 0.5 };
        let (lo, hi) = (lo * scale, hi * scale);
        Self { lo, hi, bins, step: (hi - lo) / bins as f64, scale }
    }

    /// Lower edge of bin `i`; `i == bins` gives the upper edge of the last one.
    #[inline(always)]
    pub(super) fn edge(&self, i: usize) -> f64 {
        // A range of a few subnormals is the one whose step rounds to zero.
        let along = match self.step {
            0.0 => i as f64 / self.bins as f64 * (self.hi - self.lo),
            step => i as f64 * step,
        };
        if i == self.bins { self.hi } else { along + self.lo }
    }

    /// Centre of bin `i`, in units of the image.
    pub(super) fn centre(&self, i: usize) -> f64 {
        (self.edge(i) + self.edge(i + 1)) / 2.0 / self.scale
    }

    /// The bin of a value within the range.
    #[inline(always)]
    fn bin(&self, v: f64) -> usize {
        let v = v * self.scale;
        let guess = ((v - self.lo) / (self.hi - self.lo) * self.bins as f64) as usize;
        // The quotient may be off by a rounding at an edge; the edges decide.
        let guess = guess.min(self.bins - 1);
        if v < self.edge(guess) {
            guess.saturating_sub(1)
        } else if guess + 1 < self.bins && v >= self.edge(guess + 1) {
            guess + 1
        } else {
            guess
        }
    }
}
