//! The first pass: everything one look at each voxel can tell, whatever the element type.

use crate::exact_sum::{Kind, Moments};
use crate::simd::vectorised;
use crate::{AnyVolume, Dtype, Element, Region, Volume, with_dtype, with_volume};

use super::codec::{put_counts, put_dtype, put_u64, take_counts, take_dtype, take_u64};
use super::table::{Pairs, Table};
use super::{Scalar, VALUES_MAX};

/// What the first pass over an image, or a part of one, found.
///
/// Voxels are counted by [`Element::key`], the order-preserving unsigned key: each value on its own for bool and
/// integers as long as the finite max - min stays below [`VALUES_MAX`]; otherwise by the top 16 bits of the key. Which of the
/// two depends only on the element type and the joined range, so joining stays associative; counts by value, once out of
/// range, are gone for good.
///
/// Bytes and equality are canonical: two tallies of the same voxels are equal, whichever way they were joined.
#[derive(Clone, Debug, PartialEq)]
pub struct Tally {
    dtype: Dtype,
    voxels: u64,
    nan: u64,
    posinf: u64,
    neginf: u64,
    moments: Moments,
    /// Keys of the least and greatest finite voxel.
    span: Option<(u64, u64)>,
    /// `counts[i]` finite voxels have `key >> shift == (least key >> shift) + i`. Ends with the greatest key's count.
    counts: Vec<u64>,
    shift: u32,
}

impl Tally {
    /// The tally of no voxel.
    pub fn new(dtype: Dtype) -> Self {
        Self {
            dtype,
            voxels: 0,
            nan: 0,
            posinf: 0,
            neginf: 0,
            moments: Moments::new(Kind::of(dtype)),
            span: None,
            counts: Vec::new(),
            shift: shift_for(dtype, None),
        }
    }

    /// Adds the voxels of `part`, which must lie inside the volume.
    ///
    /// # Panics
    ///
    /// When the volume is of another element type, or does not contain `part`.
    pub fn add(&mut self, volume: &AnyVolume, part: Region) {
        with_volume!(volume, v => self.merge(&tallied(v, part)));
    }

    /// Takes in what `other` has counted. Associative and commutative, with [`Tally::new`] of the same type as identity.
    ///
    /// # Panics
    ///
    /// When the two are of different element types.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(self.dtype, other.dtype, "tallies of one element type");
        self.voxels = self.voxels.wrapping_add(other.voxels);
        self.nan = self.nan.wrapping_add(other.nan);
        self.posinf = self.posinf.wrapping_add(other.posinf);
        self.neginf = self.neginf.wrapping_add(other.neginf);
        self.moments.merge(&other.moments);
        let span = match (self.span, other.span) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (one, another) => one.or(another),
        };
        let Some((least, greatest)) = span else { return };
        let shift = shift_for(self.dtype, span);
        let mut counts = vec![0u64; ((greatest >> shift) - (least >> shift)) as usize + 1];
        for part in [&*self, other] {
            let Some((first, _)) = part.span else { continue };
            for (i, count) in part.counts.iter().enumerate() {
                let at = (((first >> part.shift) + i as u64) >> (shift - part.shift)) - (least >> shift);
                counts[at as usize] = counts[at as usize].wrapping_add(*count);
            }
        }
        (self.span, self.shift, self.counts) = (span, shift, counts);
    }

    /// The element type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Every voxel seen, finite or not.
    pub fn voxels(&self) -> u64 {
        self.voxels
    }

    /// Voxels that are neither NaN nor infinite.
    pub fn finite(&self) -> u64 {
        self.moments.count()
    }

    /// Voxels that are NaN.
    pub fn nan(&self) -> u64 {
        self.nan
    }

    /// Voxels that are +Inf.
    pub fn posinf(&self) -> u64 {
        self.posinf
    }

    /// Voxels that are -Inf.
    pub fn neginf(&self) -> u64 {
        self.neginf
    }

    /// Exact sums of the finite voxels.
    pub fn moments(&self) -> &Moments {
        &self.moments
    }

    /// Least and greatest finite voxel; `None` when there is no finite one.
    pub fn range(&self) -> Option<(Scalar, Scalar)> {
        let (least, greatest) = self.span?;
        Some((scalar(self.dtype, least), scalar(self.dtype, greatest)))
    }

    /// Keys ([`Element::key`]) of the least and greatest finite voxel.
    pub fn key_range(&self) -> Option<(u64, u64)> {
        self.span
    }

    /// Counts by value: the least value, and one count for it and each value up to the greatest. `None` for floats, for
    /// integers spread over [`VALUES_MAX`] or more, and when there is no voxel.
    pub fn values(&self) -> Option<(i128, &[u64])> {
        match self.range()? {
            (Scalar::Integer(least), _) if self.shift == 0 => Some((least, &self.counts)),
            _ => None,
        }
    }

    /// Counts by `key >> shift`: the shift, the first such prefix, and one count for it and each one up to the last. With
    /// shift 0 they are the counts by value. Empty when there is no finite voxel.
    pub fn prefixes(&self) -> (u32, u64, &[u64]) {
        (self.shift, self.span.map_or(0, |(least, _)| least >> self.shift), &self.counts)
    }

    /// Appends the tally as bytes: equal tallies give equal bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_dtype(self.dtype, out);
        for v in [self.voxels, self.nan, self.posinf, self.neginf] {
            put_u64(v, out);
        }
        self.moments.encode(out);
        out.push(u8::from(self.span.is_some()));
        if let Some((least, greatest)) = self.span {
            put_u64(least, out);
            put_u64(greatest, out);
        }
        put_counts(&self.counts, out);
    }

    /// Reads what [`Tally::encode`] wrote; `None` for anything else.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let rest = &mut bytes;
        let dtype = take_dtype(rest)?;
        let [voxels, nan, posinf, neginf] = [take_u64(rest)?, take_u64(rest)?, take_u64(rest)?, take_u64(rest)?];
        let (moments, after) = rest.split_at_checked(Moments::bytes(Kind::of(dtype)))?;
        let moments = Moments::decode(Kind::of(dtype), moments)?;
        let (spanned, after) = after.split_first()?;
        *rest = after;
        let span = match spanned {
            0 => None,
            1 => Some((take_u64(rest)?, take_u64(rest)?)),
            _ => return None,
        };
        let shift = shift_for(dtype, span);
        let length = match span {
            Some((least, greatest)) if least <= greatest && greatest <= key_max(dtype) => {
                (greatest >> shift) - (least >> shift) + 1
            }
            Some(_) => return None,
            None => 0,
        };
        let counts = take_counts(usize::try_from(length).ok()?, rest)?;
        rest.is_empty().then_some(Self { dtype, voxels, nan, posinf, neginf, moments, span, counts, shift })
    }
}

/// How many low bits of the key the counts leave out.
fn shift_for(dtype: Dtype, span: Option<(u64, u64)>) -> u32 {
    let bits = key_bits(dtype);
    let narrow = span.is_none_or(|(least, greatest)| greatest.saturating_sub(least) < VALUES_MAX);
    if bits <= 16 || (narrow && !dtype.is_float()) { 0 } else { bits - 16 }
}

/// Width of the keys of a type.
pub(super) fn key_bits(dtype: Dtype) -> u32 {
    with_dtype!(dtype, T => <T as Element>::BITS)
}

fn key_max(dtype: Dtype) -> u64 {
    u64::MAX >> (64 - key_bits(dtype))
}

/// The value with that key.
pub(super) fn scalar(dtype: Dtype, key: u64) -> Scalar {
    with_dtype!(dtype, T => {
        let v = T::from_key(key);
        v.to_i128().map_or(Scalar::Float(v.to_f64()), Scalar::Integer)
    })
}

/// The tally of the voxels of `part`.
fn tallied<T: Element>(volume: &Volume<T>, part: Region) -> Tally {
    let runs = || volume.runs(part);
    let mut tally = Tally::new(T::DTYPE);
    tally.voxels = part.voxels() as u64;
    match T::BITS {
        8 => {
            let mut pairs = Pairs::new();
            runs().for_each(|run| pairs.count(run));
            tally.set_counts(0, 0, pairs.into_totals::<T>());
        }
        16 => tally.set_counts(0, 0, table::<T, 65536, 2>(runs(), 0, 0)),
        _ => {
            tally.span = runs().filter_map(finite_span).reduce(|(a, b), (c, d)| (a.min(c), b.max(d)));
            tally.shift = shift_for(T::DTYPE, tally.span);
            let base = if tally.shift == 0 { tally.span.map_or(0, |(least, _)| least) } else { 0 };
            let mut counts = table::<T, 65536, 2>(runs(), base, tally.shift);
            if T::DTYPE.is_float() {
                // Only infinities share their top 16 bits with them, and every NaN has the greatest key.
                let mut taken = |v: f64| std::mem::take(&mut counts[(T::from_f64(v).key() >> tally.shift) as usize]);
                (tally.nan, tally.posinf, tally.neginf) =
                    (taken(f64::NAN), taken(f64::INFINITY), taken(f64::NEG_INFINITY));
            }
            tally.set_counts(base, tally.shift, counts);
        }
    }
    if T::DTYPE.is_float() || tally.shift != 0 {
        tally.moments.add_runs(runs());
    } else if let Some((least, _)) = tally.span {
        for (i, count) in tally.counts.iter().enumerate().filter(|(_, count)| **count != 0) {
            // Integers have an exact value; the alternative is never taken.
            tally.moments.add_integer(T::from_key(least + i as u64).to_i128().unwrap_or(0), *count);
        }
    }
    tally
}

impl Tally {
    /// Keeps the counts from the first to the last that is not zero; the first of `counts` belongs to the key `base`. The
    /// span is read off them when they count single values.
    fn set_counts(&mut self, base: u64, shift: u32, mut counts: Vec<u64>) {
        let (Some(first), Some(last)) = (counts.iter().position(|c| *c != 0), counts.iter().rposition(|c| *c != 0))
        else {
            return;
        };
        if shift == 0 {
            self.span = Some((base + first as u64, base + last as u64));
        }
        counts.truncate(last + 1);
        counts.drain(..first);
        self.counts = counts;
    }
}

fn table<'a, T: Element, const SIZE: usize, const LANES: usize>(
    runs: impl Iterator<Item = &'a [T]>,
    base: u64,
    shift: u32,
) -> Vec<u64> {
    let mut table = Table::<SIZE, LANES>::new();
    for run in runs {
        table.count(run, |v| ((v.key() - base) >> shift) as usize);
    }
    table.into_totals()
}

/// Least and greatest key of the finite voxels of a run.
fn finite_span<T: Element>(run: &[T]) -> Option<(u64, u64)> {
    let mut span = [u64::MAX, 0];
    if T::BITS == 32 {
        let mut narrow = [u32::MAX, 0];
        widen_narrow(run, &mut narrow);
        span = narrow.map(u64::from);
    } else {
        widen(run, &mut span);
    }
    (span[0] <= span[1]).then_some((span[0], span[1]))
}

/// Widens a span of keys to that of a run's finite voxels.
macro_rules! widening {
    ($name:ident, $key:ty) => {
        vectorised! {
            fn $name<T: Element>(run: &[T], span: &mut [$key; 2]) {
                let [mut least, mut greatest] = *span;
                for v in run {
                    let key = v.key() as $key;
                    least = least.min(if v.is_finite() { key } else { <$key>::MAX });
                    greatest = greatest.max(if v.is_finite() { key } else { 0 });
                }
                *span = [least, greatest];
            }
        }
    };
}
widening!(widen, u64);
widening!(widen_narrow, u32);
