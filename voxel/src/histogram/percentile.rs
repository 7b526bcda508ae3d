//! Percentiles: `numpy.percentile`'s linear ones, in f64, exact for every element type.
//!
//! A percentile lies between two order statistics. Where every value has its count they are read off; otherwise the counts of
//! the first pass give the top 16 bits of each one's key, and every later pass 16 bits more, looking only at voxels that
//! share a prefix with a wanted one: one more pass for 32-bit types, three for 64-bit types.

use serde::{Deserialize, Serialize};

use crate::{AnyVolume, Dtype, Element, Region, with_volume};

use super::Tally;
use super::codec::{put_counts, put_dtype, put_u64, take_counts, take_dtype, take_u64};
use super::tally::{key_bits, scalar};

/// Prefix values one refining step tells apart.
const FAN: usize = 1 << 16;

/// The two ranks (from 0) a percentile of `n` values lies between, and the weight of the second.
fn ranks(n: u64, percent: f64) -> ([u64; 2], f64) {
    let last = n.saturating_sub(1);
    let position = last as f64 * (percent / 100.0);
    // `as` sends NaN and what is negative to 0.
    let lower = (position.floor() as u64).min(last);
    ([lower, (lower + 1).min(last)], position - position.floor())
}

/// numpy's interpolation: from the nearer end, so that both ends are met exactly.
fn between(a: f64, b: f64, weight: f64) -> f64 {
    let span = b - a;
    if !span.is_finite() {
        // Ends so far apart that their distance overflows; numpy gives an infinity here.
        a * (1.0 - weight) + b * weight
    } else if weight >= 0.5 {
        b - span * (1.0 - weight)
    } else {
        a + span * weight
    }
}

/// Index of the count that holds `rank`, and the rank within it. `None` when there are fewer.
fn find(counts: &[u64], rank: u64) -> Option<(usize, u64)> {
    let mut rest = rank;
    for (i, &count) in counts.iter().enumerate() {
        if rest < count {
            return Some((i, rest));
        }
        rest -= count;
    }
    None
}

/// An order statistic as far as it is known: the leading bits of its key, and its rank among the voxels that share them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Located {
    prefix: u64,
    rank: u64,
}

/// The search for exact percentiles, pass by pass.
///
/// Start from the joined [`Tally`]; while [`PercentileSearch::wanted`] gives a [`Refine`], run a pass that fills copies of it,
/// join them and go on with [`PercentileSearch::refined`]; then read [`PercentileSearch::values`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PercentileSearch {
    dtype: Dtype,
    /// Leading bits known of each key.
    bits: u32,
    /// For each percentile, its two order statistics and the weight of the second.
    between: Vec<([Located; 2], f64)>,
}

impl PercentileSearch {
    /// Starts the search for `percents` (0 to 100; what lies outside counts as the nearest of these). `None` when there is no finite voxel.
    pub fn new(tally: &Tally, percents: &[f64]) -> Option<Self> {
        let (shift, first, counts) = tally.prefixes();
        let locate = |rank| find(counts, rank).map(|(i, rank)| Located { prefix: first + i as u64, rank });
        let between = percents
            .iter()
            .map(|percent| {
                let ([a, b], weight) = ranks(tally.finite(), percent.clamp(0.0, 100.0));
                Some(([locate(a)?, locate(b)?], weight))
            })
            .collect::<Option<_>>()?;
        (tally.finite() > 0).then_some(Self { dtype: tally.dtype(), bits: key_bits(tally.dtype()) - shift, between })
    }

    /// What the next pass has to count, empty; `None` when every value is known.
    pub fn wanted(&self) -> Option<Refine> {
        let prefixes = self.between.iter().flat_map(|(ends, _)| ends.map(|end| end.prefix)).collect();
        Refine::new(self.dtype, self.bits, prefixes)
    }

    /// Goes on with the joined counts of a pass. `None` when they are not those of [`PercentileSearch::wanted`].
    pub fn refined(mut self, pass: &Refine) -> Option<Self> {
        if (pass.dtype, pass.bits) != (self.dtype, self.bits) {
            return None;
        }
        for end in self.between.iter_mut().flat_map(|(ends, _)| ends) {
            let (low, rank) = find(pass.counts_within(end.prefix)?, end.rank)?;
            *end = Located { prefix: end.prefix << 16 | low as u64, rank };
        }
        self.bits += 16;
        Some(self)
    }

    /// The percentiles, in the order they were asked for; `None` as long as [`PercentileSearch::wanted`] gives something.
    pub fn values(&self) -> Option<Vec<f64>> {
        let value = |end: Located| scalar(self.dtype, end.prefix).to_f64();
        let done = self.bits == key_bits(self.dtype);
        done.then(|| self.between.iter().map(|([a, b], weight)| between(value(*a), value(*b), *weight)).collect())
    }
}

/// One refining pass: among the finite voxels whose key starts with a wanted prefix, counts by the 16 bits that follow.
#[derive(Clone, Debug, PartialEq)]
pub struct Refine {
    dtype: Dtype,
    /// Length of the prefixes: 16, 32 or 48.
    bits: u32,
    /// Sorted, each once.
    prefixes: Vec<u64>,
    /// 2^16 counts for each prefix.
    counts: Vec<u64>,
}

impl Refine {
    /// Empty counts for these prefixes of `bits` bits, in any order. `None` when keys of the type have no 16 bits after them,
    /// `bits` is not 16, 32 or 48, or a prefix is longer.
    pub fn new(dtype: Dtype, bits: u32, mut prefixes: Vec<u64>) -> Option<Self> {
        prefixes.sort_unstable();
        prefixes.dedup();
        let valid = [16, 32, 48].contains(&bits)
            && bits < key_bits(dtype)
            && prefixes.last().is_none_or(|prefix| prefix >> bits == 0);
        valid.then(|| Self { dtype, bits, counts: vec![0; prefixes.len() * FAN], prefixes })
    }

    /// The element type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Length of the prefixes in bits.
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// The wanted prefixes, ascending.
    pub fn prefixes(&self) -> &[u64] {
        &self.prefixes
    }

    /// The 2^16 counts of a prefix; `None` when it was not asked for.
    pub fn counts_within(&self, prefix: u64) -> Option<&[u64]> {
        let at = self.prefixes.binary_search(&prefix).ok()?;
        self.counts.get(at * FAN..(at + 1) * FAN)
    }

    /// Adds the voxels of `part`, which must lie inside the volume.
    ///
    /// # Panics
    ///
    /// When the volume is of another element type, or does not contain `part`.
    pub fn add(&mut self, volume: &AnyVolume, part: Region) {
        assert_eq!(self.dtype, volume.dtype(), "voxels of the type that is refined");
        // Few voxels share even their first 16 bits with a wanted prefix; this tells them apart by one look.
        let mut candidate = vec![false; FAN];
        for prefix in &self.prefixes {
            candidate[(prefix >> (self.bits - 16)) as usize] = true;
        }
        with_volume!(volume, v => v.runs(part).for_each(|run| self.add_run(run, &candidate)));
    }

    fn add_run<T: Element>(&mut self, run: &[T], candidate: &[bool]) {
        for v in run {
            let key = v.key();
            if candidate[(key >> (T::BITS - 16)) as usize]
                && let Ok(at) = self.prefixes.binary_search(&(key >> (T::BITS - self.bits)))
                && v.is_finite()
            {
                self.counts[at * FAN + (key >> (T::BITS - self.bits - 16)) as usize % FAN] += 1;
            }
        }
    }

    /// Takes in what `other` has counted. Associative and commutative, with empty counts as identity.
    ///
    /// # Panics
    ///
    /// When the two look for different prefixes.
    pub fn merge(&mut self, other: &Self) {
        let wanted = |of: &Self| (of.dtype, of.bits);
        assert!(wanted(self) == wanted(other) && self.prefixes == other.prefixes, "the same prefixes");
        self.counts.iter_mut().zip(&other.counts).for_each(|(own, other)| *own = own.wrapping_add(*other));
    }

    /// Appends the counts as bytes: equal counts give equal bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_dtype(self.dtype, out);
        put_u64(self.bits.into(), out);
        put_u64(self.prefixes.len() as u64, out);
        self.prefixes.iter().for_each(|prefix| put_u64(*prefix, out));
        put_counts(&self.counts, out);
    }

    /// Reads what [`Refine::encode`] wrote; `None` for anything else.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let rest = &mut bytes;
        let dtype = take_dtype(rest)?;
        let bits = u32::try_from(take_u64(rest)?).ok()?;
        let length = usize::try_from(take_u64(rest)?).ok()?;
        // Each prefix brings at least 2^16 bytes of counts.
        if length > rest.len() / FAN {
            return None;
        }
        let prefixes = (0..length).map(|_| take_u64(rest)).collect::<Option<Vec<_>>>()?;
        let counts = take_counts(length * FAN, rest)?;
        let empty = Self::new(dtype, bits, prefixes.clone())?;
        (rest.is_empty() && empty.prefixes == prefixes).then_some(Self { counts, ..empty })
    }
}

/// A percentile known only to within a bucket of keys: the exact one lies in `[value, value + bound]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Approximate {
    /// The percentile if every voxel had the least value of its bucket.
    pub value: f64,
    /// How far above it the exact percentile may lie; 0 where values are counted one by one.
    pub bound: f64,
}

/// What a first pass alone can say about a percentile (0 to 100). `None` when there is no finite voxel.
pub fn approximate_percentile(tally: &Tally, percent: f64) -> Option<Approximate> {
    let (least, greatest) = tally.key_range()?;
    let (shift, first, counts) = tally.prefixes();
    let ([a, b], weight) = ranks(tally.finite(), percent.clamp(0.0, 100.0));
    let ends = |rank| {
        let low = (first + find(counts, rank)?.0 as u64) << shift;
        let high = low | ((1 << shift) - 1);
        Some([low.max(least), high.min(greatest)].map(|key| scalar(tally.dtype(), key).to_f64()))
    };
    let ([a_low, a_high], [b_low, b_high]) = (ends(a)?, ends(b)?);
    let value = between(a_low, b_low, weight);
    Some(Approximate { value, bound: between(a_high, b_high, weight) - value })
}
