//! Weighted sums of windows that lie side by side, one in each lane of the vector unit.

use super::Boundary;
use super::reading::Reading;
use crate::Element;
use crate::simd::vectorised;

/// Numbers that lie side by side: sums of as many windows, or a row of a strip of columns, on cache lines of its own.
pub(super) trait Lanes: Copy {
    /// What sums are formed of.
    type Number: Copy + Default;

    /// How many: four of AVX2's registers hide the latency of the additions, and the windows over as many columns lie in
    /// the nearest cache.
    const COUNT: usize;

    /// All zeros.
    const ZERO: Self;

    fn number<S: Element, R: Reading<S>>(value: S, reading: R) -> Self::Number;

    fn numbers(&self) -> &[Self::Number];

    /// Converts as many voxels as there are, or as there are lanes.
    fn load<S: Element, R: Reading<S>>(&mut self, from: &[S], reading: R);

    fn fill(&mut self, number: Self::Number);

    /// The weighted sums of windows: the centre first, then pairs of equal weight from the ends inwards, which is scipy's
    /// order for symmetric kernels. What is given has at least as many numbers as there are lanes.
    fn weighed<'w>(
        middle: &[Self::Number],
        centre: Self::Number,
        pairs: impl Iterator<Item = (&'w [Self::Number], &'w [Self::Number])>,
        weights: &[Self::Number],
    ) -> Self
    where
        Self::Number: 'w;

    /// Rounds sums to as many voxels as there are. All are rounded, wanted or not, and the last few of a row are a case of
    /// their own that is out of sight: else the compiler keeps sums apart, or copies all of them by a call.
    fn round<F: Element>(self, to: &mut [F]);
}

macro_rules! lanes {
    ($name:ident, $number:ty, $count:literal, $read:ident, $round:ident) => {
        #[derive(Clone, Copy)]
        #[repr(align(64))]
        pub(super) struct $name([$number; $count]);

        impl Lanes for $name {
            type Number = $number;

            const COUNT: usize = $count;

            const ZERO: Self = Self([0.0; $count]);

            #[inline(always)]
            fn number<S: Element, R: Reading<S>>(value: S, reading: R) -> $number {
                reading.$read(value)
            }

            #[inline(always)]
            fn numbers(&self) -> &[$number] {
                &self.0
            }

            #[inline(always)]
            fn load<S: Element, R: Reading<S>>(&mut self, from: &[S], reading: R) {
                let Self(to) = self;
                match from.first_chunk::<$count>() {
                    Some(from) => {
                        for i in 0..$count {
                            to[i] = reading.$read(from[i]);
                        }
                    }
                    None => {
                        for (to, from) in to.iter_mut().zip(from) {
                            *to = reading.$read(*from);
                        }
                    }
                }
            }

            #[inline(always)]
            fn fill(&mut self, number: $number) {
                self.0 = [number; $count];
            }

            #[inline(always)]
            fn weighed<'w>(
                middle: &[$number],
                centre: $number,
                pairs: impl Iterator<Item = (&'w [$number], &'w [$number])>,
                weights: &[$number],
            ) -> Self {
                let lanes = |numbers: &'w [$number]| numbers.first_chunk().unwrap_or(&[0.0; $count]);
                let mut sums = [0.0; $count];
                let Some(middle) = middle.first_chunk::<$count>() else { return Self::ZERO };
                for i in 0..$count {
                    sums[i] = middle[i] * centre;
                }
                for ((low, high), weight) in pairs.zip(weights) {
                    let (low, high): (&[_; $count], &[_; $count]) = (lanes(low), lanes(high));
                    for i in 0..$count {
                        sums[i] += (low[i] + high[i]) * *weight;
                    }
                }
                Self(sums)
            }

            #[inline(always)]
            fn round<F: Element>(self, to: &mut [F]) {
                #[cold]
                #[inline(never)]
                fn few<F: Element>(rounded: &[F; $count], to: &mut [F]) {
                    to.copy_from_slice(&rounded[..to.len()]);
                }
                let mut rounded = [F::default(); $count];
                for i in 0..$count {
                    rounded[i] = F::$round(self.0[i]);
                }
                match to.first_chunk_mut() {
                    Some(to) => *to = rounded,
                    None => few(&rounded, to),
                }
            }
        }
    };
}
lanes!(Doubles, f64, 16, double, from_f64);
lanes!(Singles, f32, 32, single, from_f32);

vectorised! {
    /// Converts a few columns of the rows; where there is no row, all is constant.
    pub(super) fn load_strip<L: Lanes, S: Element, R: Reading<S>>(
        rows: &[Option<&[S]>],
        reading: R,
        x: usize,
        lanes: usize,
        constant: L::Number,
        strip: &mut [L],
    ) {
        for (to, row) in strip.iter_mut().zip(rows) {
            match row {
                Some(row) => to.load(&row[x..][..lanes], reading),
                None => to.fill(constant),
            }
        }
    }

    /// Converts a row, extended beyond the image's faces.
    pub(super) fn load_extended<L: Lanes, S: Element, R: Reading<S>>(
        row: &[S],
        reading: R,
        start: usize,
        n: usize,
        first: isize,
        line: &mut [L::Number],
        boundary: Boundary,
        constant: L::Number,
    ) {
        boundary.extend_row(row, start, n, first, line, constant, |value| L::number(value, reading));
    }

    /// The weighted sum of each window down a strip, to rows of `lanes` voxels that lie `stride` apart.
    pub(super) fn weigh_strip<L: Lanes, F: Element>(strip: &[L], taps: &[L::Number], to: &mut [F], stride: usize, lanes: usize) {
        let (weights, centre) = halves(taps);
        for (window, to) in strip.windows(taps.len()).zip(to.chunks_mut(stride)) {
            let (low, above) = window.split_at(weights.len());
            let Some((middle, high)) = above.split_first() else { return };
            let pairs = low.iter().zip(high.iter().rev()).map(|(low, high)| (low.numbers(), high.numbers()));
            L::weighed(middle.numbers(), centre, pairs, weights).round(&mut to[..lanes]);
        }
    }

    /// The weighted sum of each window of a line that ends in as many lanes as there may be, some of them for nothing.
    pub(super) fn weigh_line<L: Lanes, F: Element>(line: &[L::Number], taps: &[L::Number], to: &mut [F]) {
        let (weights, centre) = halves(taps);
        for (x, to) in to.chunks_mut(L::COUNT).enumerate() {
            let (low, above) = line[x * L::COUNT..][..taps.len() - 1 + L::COUNT].split_at(weights.len());
            let middle = &above[..L::COUNT];
            // The windows of the voxels before the middle begin below it, and reach into it and beyond.
            let low = line[x * L::COUNT..][..low.len() + L::COUNT - 1].windows(L::COUNT);
            let high = above[1..].windows(L::COUNT).rev();
            L::weighed(middle, centre, low.zip(high), weights).round(to);
        }
    }
}

/// A symmetric kernel's weights up to its centre, and that of the centre.
#[inline(always)]
fn halves<N: Copy>(taps: &[N]) -> (&[N], N) {
    let radius = taps.len() / 2;
    (&taps[..radius], taps[radius])
}
