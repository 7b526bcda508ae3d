//! Which voxels have a seed within a given distance: a distance transform that stops at the radius.
//!
//! Along x, then y, then z. The first axis gives distances to the seeds of the own row. The second takes the least sum
//! of squares over the rows of a plane and keeps, in place of that distance, how far it still reaches along z: the
//! largest `d` with `distance² + d² <= radius²`. The third has then only to see which voxels are in somebody's reach,
//! with two running maxima. No step depends on the radius but the second, and that only below a radius at which plain
//! minima over the window are faster than the lower envelope of parabolas.
//!
//! Distances and reaches take a byte each up to a radius of 254, two beyond.

use crate::simd::vectorised;
use crate::{Element, Region, Volume};

/// Largest radius, in voxels, at which the minimum over a plane's rows is taken directly.
const DIRECT_RADIUS_MAX: usize = 128;

/// Voxels of neighbouring x that the second axis computes together.
const LANES: usize = 64;

/// Bytes alive at once in [`reached`], with `read` bytes of input.
pub(super) fn peak_bytes(radius_squared: u32, read: usize, needed: Region, out: Region) -> usize {
    let [depth, rows, _] = needed.shape();
    let plane = out.shape()[1] * out.shape()[2];
    let (size, square_size) = if radius_squared.isqrt() < 255 { (1, 2) } else { (2, 4) };
    let reaches = depth * plane * size;
    let distances = rows * out.shape()[2] * size;
    let panel = rows * LANES * square_size;
    (read + reaches + distances + panel).max(reaches + out.voxels() + plane * size)
}

/// The voxels of `out` with a seed at a squared distance of at most `radius_squared`. Seeds are the foreground voxels of
/// `input`, or the background ones; `needed` is the part of `input` that can matter.
pub(super) fn reached<T: Element>(
    input: Volume<T>,
    needed: Region,
    out: Region,
    radius_squared: u32,
    foreground: bool,
) -> Volume<bool> {
    if radius_squared.isqrt() < 255 {
        let reaches = in_planes::<T, u8>(&input, needed, out, radius_squared, foreground);
        drop(input);
        across_planes(&reaches, out)
    } else {
        let reaches = in_planes::<T, u16>(&input, needed, out, radius_squared, foreground);
        drop(input);
        across_planes(&reaches, out)
    }
}

/// A distance up to the radius plus one, and the type its square is counted in, saturating above every square that
/// matters.
trait Distance: Copy + Ord + Default + Send + Sync + 'static {
    type Square: Copy + Ord + Default;
    fn new(distance: u32) -> Self;
    fn get(self) -> u32;
    fn less_one(self) -> Self;
    fn square(distance: u32) -> Self::Square;
    fn sum(a: Self::Square, b: Self::Square) -> Self::Square;
    fn value(square: Self::Square) -> u32;
}

macro_rules! distance {
    ($t:ty, $square:ty) => {
        impl Distance for $t {
            type Square = $square;
            #[inline(always)]
            fn new(distance: u32) -> Self {
                distance as $t
            }
            #[inline(always)]
            fn get(self) -> u32 {
                u32::from(self)
            }
            #[inline(always)]
            fn less_one(self) -> Self {
                self.saturating_sub(1)
            }
            #[inline(always)]
            fn square(distance: u32) -> $square {
                (distance * distance) as $square
            }
            #[inline(always)]
            fn sum(a: $square, b: $square) -> $square {
                a.saturating_add(b)
            }
            #[inline(always)]
            fn value(square: $square) -> u32 {
                u32::from(square)
            }
        }
    };
}
distance!(u8, u16);
distance!(u16, u32);

/// The first two axes: for each voxel of `out`'s columns in every needed plane, one more than its reach along z, 0 where
/// no seed of the plane is near enough.
fn in_planes<T: Element, D: Distance>(
    input: &Volume<T>,
    needed: Region,
    out: Region,
    radius_squared: u32,
    foreground: bool,
) -> Volume<D> {
    let within = |mut region: Region, axis: usize| {
        (region.start[axis], region.end[axis]) = (out.start[axis], out.end[axis]);
        region
    };
    let mut reaches = Volume::zeros(within(within(needed, 1), 2));
    let [_, height, width] = reaches.region.shape();
    let rows = needed.shape()[1];
    let mut distances = vec![D::default(); rows * width];
    let mut panel = vec![[D::Square::default(); LANES]; rows];
    let skipped = needed.start[2] - input.region.start[2];
    let above = out.start[1] - needed.start[1];
    for (z, plane) in (needed.start[0]..needed.end[0]).zip(reaches.data.chunks_exact_mut(height * width)) {
        for (y, row) in (needed.start[1]..needed.end[1]).zip(distances.chunks_exact_mut(width)) {
            let voxels = &input.row(z, y)[skipped..][..needed.shape()[2]];
            let far = radius_squared.isqrt() + 1;
            distances_in_row(voxels, out.start[2] - needed.start[2], far, foreground, row);
        }
        if (radius_squared.isqrt() as usize) <= DIRECT_RADIUS_MAX {
            least_directly(&distances, above, radius_squared, &mut panel, width, plane);
        } else {
            least_by_envelope(&distances, above, radius_squared, width, plane);
        }
    }
    reaches
}

/// Distances along x to the nearest seed, `far` where there is none nearer, of the voxels from `first` on. The voxels
/// before and after them take part as seeds.
fn distances_in_row<T: Element, D: Distance>(voxels: &[T], first: usize, far: u32, foreground: bool, row: &mut [D]) {
    let step = |distance: u32, voxel: &T| if voxel.is_foreground() == foreground { 0 } else { (distance + 1).min(far) };
    let (before, rest) = voxels.split_at(first);
    let (here, after) = rest.split_at(row.len());
    let mut distance = before.iter().fold(far, step);
    for (nearest, voxel) in row.iter_mut().zip(here) {
        distance = step(distance, voxel);
        *nearest = D::new(distance);
    }
    distance = after.iter().rev().fold(far, step);
    for (nearest, voxel) in row.iter_mut().zip(here).rev() {
        distance = step(distance, voxel);
        *nearest = (*nearest).min(D::new(distance));
    }
}

/// One more than the largest `d` with `square + d² <= radius_squared`; 0 when there is none.
#[inline(always)]
fn reach<D: Distance>(square: u32, radius_squared: u32) -> D {
    // The root of an integer below 2^32 is correctly rounded in f64 and never rounds up to the next integer.
    let left = f64::from(radius_squared.saturating_sub(square)).sqrt() as u32;
    D::new(if square > radius_squared { 0 } else { left + 1 })
}

vectorised! {
    /// The least sum of squares over the rows of a plane, each row with each within the radius: `LANES` columns at a
    /// time, gathered as squares into `panel` so that the rows under the window stay in the nearest cache.
    fn least_directly<D: Distance>(
        distances: &[D],
        above: usize,
        radius_squared: u32,
        panel: &mut [[D::Square; LANES]],
        width: usize,
        plane: &mut [D],
    ) {
        let radius = radius_squared.isqrt() as usize;
        let rows = panel.len();
        for x in (0..width).step_by(LANES) {
            let lanes = LANES.min(width - x);
            for (squares, row) in panel.iter_mut().zip(distances.chunks_exact(width)) {
                for (square, distance) in squares.iter_mut().zip(&row[x..][..lanes]) {
                    *square = D::square(distance.get());
                }
            }
            for (y, to) in plane.chunks_exact_mut(width).enumerate() {
                let y = y + above;
                let mut least = panel[y];
                // Rows that both exist are taken in pairs: one addition for the two.
                let paired = radius.min(y).min(rows - 1 - y);
                for d in 1..=paired {
                    let square = D::square(d as u32);
                    let (low, high) = (&panel[y - d], &panel[y + d]);
                    for i in 0..LANES {
                        least[i] = least[i].min(D::sum(low[i].min(high[i]), square));
                    }
                }
                for d in paired + 1..=radius {
                    let square = D::square(d as u32);
                    let one = if d <= y { y - d } else { y + d };
                    if one >= rows {
                        break;
                    }
                    for i in 0..LANES {
                        least[i] = least[i].min(D::sum(panel[one][i], square));
                    }
                }
                for (to, least) in to[x..][..lanes].iter_mut().zip(&least) {
                    *to = reach(D::value(*least), radius_squared);
                }
            }
        }
    }

    /// One step of [`across_planes`]: what is left of the reaches so far, or a new one where that goes farther.
    fn advance<D: Distance>(left: &mut [D], reaches: &[D]) {
        for (left, reach) in left.iter_mut().zip(reaches) {
            *left = left.less_one().max(*reach);
        }
    }

    /// Marks the voxels that are in somebody's reach.
    fn mark<D: Distance>(left: &[D], voxels: &mut [bool]) {
        for (voxel, left) in voxels.iter_mut().zip(left) {
            *voxel |= *left > D::default();
        }
    }
}

/// The same by the lower envelope of the parabolas that stand on a column's rows, at a cost that no radius changes.
fn least_by_envelope<D: Distance>(distances: &[D], above: usize, radius_squared: u32, width: usize, plane: &mut [D]) {
    let rows = distances.len() / width;
    let far = radius_squared.isqrt() + 1;
    // The parabolas of the envelope: the row and square each stands on, and the first row where it is the lowest.
    let mut envelope: Vec<(i64, i64, i64)> = Vec::with_capacity(rows);
    for x in 0..width {
        envelope.clear();
        for y in 0..rows {
            let distance = distances[y * width + x].get();
            if distance == far {
                continue;
            }
            let (y, square) = (y as i64, i64::from(distance) * i64::from(distance));
            let mut from = 0;
            while let Some(&(lower_y, lower_square, lower_from)) = envelope.last() {
                // The first row at which the new parabola is strictly below: where the two are level stays with the old.
                from = (y * y - lower_y * lower_y + square - lower_square).div_euclid(2 * (y - lower_y)) + 1;
                if from > lower_from {
                    break;
                }
                envelope.pop();
                from = 0;
            }
            envelope.push((y, square, from));
        }
        let mut at = 0;
        for (i, to) in plane.chunks_exact_mut(width).enumerate() {
            let y = (i + above) as i64;
            while envelope.get(at + 1).is_some_and(|next| next.2 <= y) {
                at += 1;
            }
            to[x] = match envelope.get(at) {
                Some(&(lowest_y, square, _)) => {
                    let least = square + (y - lowest_y) * (y - lowest_y);
                    reach(u32::try_from(least).unwrap_or(u32::MAX), radius_squared)
                }
                None => D::default(),
            };
        }
    }
}

/// The third axis: a voxel is reached when a voxel of its column, before or after it, reaches so far.
fn across_planes<D: Distance>(reaches: &Volume<D>, out: Region) -> Volume<bool> {
    let mut output = Volume::zeros(out);
    let [_, height, width] = out.shape();
    let plane = height * width;
    let mut left = vec![D::default(); plane];
    let start = reaches.region.start[0];
    let mut visit = |z: usize, left: &mut [D]| {
        advance(left, &reaches.data[(z - start) * plane..][..plane]);
        if (out.start[0]..out.end[0]).contains(&z) {
            mark(left, &mut output.data[(z - out.start[0]) * plane..][..plane]);
        }
    };
    for z in start..out.end[0] {
        visit(z, &mut left);
    }
    left.fill(D::default());
    for z in (out.start[0]..reaches.region.end[0]).rev() {
        visit(z, &mut left);
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways over the rows, at radii on both sides of the change-over and of the change of integers.
    #[test]
    fn envelope_and_direct_minima_agree() {
        fn compare<D: Distance + std::fmt::Debug>(radius_squared: u32, seed: u32) {
            let (rows, width, above) = (40 + seed as usize % 300, 70, 7);
            let far = radius_squared.isqrt() + 1;
            let mut state = seed;
            let distances: Vec<D> = (0..rows * width)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    D::new(if state >> 28 < 9 { far } else { (state >> 8) % (far + 1) })
                })
                .collect();
            let mut direct = vec![D::default(); (rows - 2 * above) * width];
            let mut envelope = direct.clone();
            let mut panel = vec![[D::Square::default(); LANES]; rows];
            least_directly(&distances, above, radius_squared, &mut panel, width, &mut direct);
            least_by_envelope(&distances, above, radius_squared, width, &mut envelope);
            assert!(direct == envelope, "{radius_squared} {seed}");
        }
        for seed in 0..6 {
            for radius_squared in [0, 1, 2, 9, 50, 1000, 128 * 128, 254 * 254, 255 * 255 - 1] {
                compare::<u8>(radius_squared, seed * 51);
                compare::<u16>(radius_squared, seed * 51);
            }
            compare::<u16>(300 * 300 + 17, seed * 51);
        }
    }

    #[test]
    fn reach_is_the_exact_root() {
        for radius_squared in [0u32, 1, 8, 9, 10, 65_024, 65_534 * 65_534] {
            for square in [0, 1, 2, 7, 8, 9, 10, radius_squared / 2, radius_squared, radius_squared.saturating_add(1)] {
                let expected = radius_squared.checked_sub(square).map_or(0, |left| left.isqrt() + 1);
                assert_eq!(reach::<u16>(square, radius_squared).get(), expected, "{square} of {radius_squared}");
            }
        }
    }
}
