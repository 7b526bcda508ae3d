//! Which voxels have a seed near enough: a distance transform that stops at the radius.
//!
//! Along x, then y, then z. The first axis gives distances to the seeds of the own row. The second takes the least sum
//! of what distances along x and y cost over the rows of a plane and keeps, in place of a distance, how far the rest
//! still reaches along z. The third has then only to see which voxels are in somebody's reach, with two running maxima.
//! No step depends on the radius but the second, and that, for balls, only below a radius at which plain minima over the
//! window are faster than the lower envelope of parabolas.
//!
//! Distances and reaches take a byte each up to a radius of 254, two beyond; costs take two, four or eight.

use super::near::Near;
use crate::simd::vectorised;
use crate::{Element, Region, Volume};

/// Largest radius, in voxels, at which the minimum over a plane's rows is taken directly.
const DIRECT_RADIUS_MAX: usize = 128;

/// Voxels of neighbouring x that the second axis computes together.
const LANES: usize = 64;

/// Which integers count distances and costs.
enum Width {
    Narrow,
    Wide,
    Float,
}

fn width(near: &Near) -> Width {
    let narrow = near.radius.iter().all(|radius| *radius < 255);
    if narrow && near.is_whole() && near.limit < f64::from(u16::MAX) {
        Width::Narrow
    } else if near.is_whole() && near.limit < f64::from(u32::MAX) {
        Width::Wide
    } else {
        Width::Float
    }
}

/// Bytes alive at once in [`reached`], with `read` bytes of input.
pub(super) fn peak_bytes(near: &Near, read: usize, needed: Region, out: Region) -> usize {
    let [depth, rows, _] = needed.shape();
    let plane = out.shape()[1] * out.shape()[2];
    let (size, cost_size) = match width(near) {
        Width::Narrow => (1, 2),
        Width::Wide => (2, 4),
        Width::Float => (2, 8),
    };
    let reaches = depth * plane * size;
    let distances = rows * out.shape()[2] * size;
    let panel = rows * LANES * cost_size;
    (read + reaches + distances + panel).max(reaches + out.voxels() + plane * size)
}

/// The voxels of `out` with a seed near enough. Seeds are the foreground voxels of `input`, or the background ones;
/// `needed` is the part of `input` that can matter.
pub(super) fn reached<T: Element>(
    input: Volume<T>,
    needed: Region,
    out: Region,
    near: &Near,
    foreground: bool,
) -> Volume<bool> {
    match width(near) {
        Width::Narrow => {
            let reaches = in_planes(&input, needed, out, &Costs::<u8, u16>::new(near), foreground);
            drop(input);
            across_planes(&reaches, out)
        }
        Width::Wide => {
            let reaches = in_planes(&input, needed, out, &Costs::<u16, u32>::new(near), foreground);
            drop(input);
            across_planes(&reaches, out)
        }
        Width::Float => {
            let reaches = in_planes(&input, needed, out, &Costs::<u16, f64>::new(near), foreground);
            drop(input);
            across_planes(&reaches, out)
        }
    }
}

/// A distance up to the radius plus one.
trait Distance: Copy + Ord + Default + Send + Sync + 'static {
    fn new(distance: usize) -> Self;
    fn get(self) -> usize;
    fn less_one(self) -> Self;
}

/// What distances cost, saturating above every cost that matters.
trait Cost: Copy + PartialOrd + Default + Send + Sync + 'static {
    const FAR: Self;
    fn new(cost: f64) -> Self;
    fn sum(a: Self, b: Self) -> Self;
    fn least(a: Self, b: Self) -> Self;
    fn value(self) -> f64;
}

macro_rules! distance {
    ($($t:ty),*) => {$(
        impl Distance for $t {
            #[inline(always)]
            fn new(distance: usize) -> Self {
                distance as $t
            }
            #[inline(always)]
            fn get(self) -> usize {
                usize::from(self)
            }
            #[inline(always)]
            fn less_one(self) -> Self {
                self.saturating_sub(1)
            }
        }
    )*};
}
distance!(u8, u16);

macro_rules! cost {
    ($($t:ty),*) => {$(
        impl Cost for $t {
            const FAR: Self = <$t>::MAX;
            #[inline(always)]
            fn new(cost: f64) -> Self {
                cost as $t
            }
            #[inline(always)]
            fn sum(a: Self, b: Self) -> Self {
                a.saturating_add(b)
            }
            #[inline(always)]
            fn least(a: Self, b: Self) -> Self {
                a.min(b)
            }
            #[inline(always)]
            fn value(self) -> f64 {
                f64::from(self)
            }
        }
    )*};
}
cost!(u16, u32);

impl Cost for f64 {
    const FAR: Self = f64::INFINITY;
    #[inline(always)]
    fn new(cost: f64) -> Self {
        cost
    }
    #[inline(always)]
    fn sum(a: Self, b: Self) -> Self {
        a + b
    }
    #[inline(always)]
    fn least(a: Self, b: Self) -> Self {
        if b < a { b } else { a }
    }
    #[inline(always)]
    fn value(self) -> f64 {
        self
    }
}

/// What [`Near`] says, in the numbers the loops count in.
struct Costs<'a, D, C> {
    near: &'a Near,
    /// Of each distance along x; the last entry, one beyond the radius, stands for all that is farther.
    x: Vec<C>,
    /// Of each distance along y, up to the radius.
    y: Vec<C>,
    /// One more than the reach along z that each whole cost leaves, as far as costs are few; else empty.
    reaches: Vec<D>,
}

/// Costs up to here have their reaches in a table, which then fits the nearest caches.
const TABLE_MAX: f64 = 16_384.0;

impl<'a, D: Distance, C: Cost> Costs<'a, D, C> {
    fn new(near: &'a Near) -> Self {
        let costs = |axis: usize| (0..=near.radius[axis]).map(move |d| C::new(near.cost(axis, d)));
        let table = if near.is_whole() && near.limit <= TABLE_MAX { 0..near.limit as usize + 1 } else { 0..0 };
        Self {
            near,
            x: costs(2).chain([C::FAR]).collect(),
            y: costs(1).collect(),
            reaches: table.map(|cost| D::new(near.reach(cost as f64))).collect(),
        }
    }

    /// One more than how far `cost` leaves to go along z; 0 when it is too much already.
    #[inline(always)]
    fn reach(&self, cost: C) -> D {
        let cost = cost.value();
        match self.reaches.get(cost as usize) {
            Some(reach) => *reach,
            None if cost > self.near.limit => D::default(),
            None => D::new(self.near.reach(cost)),
        }
    }
}

/// The first two axes: for each voxel of `out`'s columns in every needed plane, one more than its reach along z, 0 where
/// no seed of the plane is near enough.
fn in_planes<T: Element, D: Distance, C: Cost>(
    input: &Volume<T>,
    needed: Region,
    out: Region,
    costs: &Costs<'_, D, C>,
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
    let mut panel = vec![[C::default(); LANES]; rows];
    let skipped = needed.start[2] - input.region.start[2];
    let above = out.start[1] - needed.start[1];
    for (z, plane) in (needed.start[0]..needed.end[0]).zip(reaches.data.chunks_exact_mut(height * width)) {
        for (y, row) in (needed.start[1]..needed.end[1]).zip(distances.chunks_exact_mut(width)) {
            let voxels = &input.row(z, y)[skipped..][..needed.shape()[2]];
            let far = costs.near.radius[2] + 1;
            distances_in_row(voxels, out.start[2] - needed.start[2], far, foreground, row);
        }
        if costs.near.radius[1] <= DIRECT_RADIUS_MAX || !costs.near.is_round() {
            least_directly(&distances, above, costs, &mut panel, width, plane);
        } else {
            least_by_envelope(&distances, above, costs, width, plane);
        }
    }
    reaches
}

/// Distances along x to the nearest seed, `far` where there is none nearer, of the voxels from `first` on. The voxels
/// before and after them take part as seeds.
fn distances_in_row<T: Element, D: Distance>(voxels: &[T], first: usize, far: usize, foreground: bool, row: &mut [D]) {
    let step =
        |distance: usize, voxel: &T| if voxel.is_foreground() == foreground { 0 } else { (distance + 1).min(far) };
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

vectorised! {
    /// The least sum of costs over the rows of a plane, each row with each within the radius: `LANES` columns at a
    /// time, gathered as costs into `panel` so that the rows under the window stay in the nearest cache.
    fn least_directly<D: Distance, C: Cost>(
        distances: &[D],
        above: usize,
        costs: &Costs<'_, D, C>,
        panel: &mut [[C; LANES]],
        width: usize,
        plane: &mut [D],
    ) {
        let radius = costs.near.radius[1];
        let rows = panel.len();
        for x in (0..width).step_by(LANES) {
            let lanes = LANES.min(width - x);
            for (along_x, row) in panel.iter_mut().zip(distances.chunks_exact(width)) {
                for (cost, distance) in along_x.iter_mut().zip(&row[x..][..lanes]) {
                    *cost = costs.x[distance.get()];
                }
            }
            for (y, to) in plane.chunks_exact_mut(width).enumerate() {
                let y = y + above;
                let mut least = panel[y];
                // Rows that both exist are taken in pairs: one addition for the two.
                let paired = radius.min(y).min(rows - 1 - y);
                for d in 1..=paired {
                    let along_y = costs.y[d];
                    let (low, high) = (&panel[y - d], &panel[y + d]);
                    for i in 0..LANES {
                        least[i] = C::least(least[i], C::sum(C::least(low[i], high[i]), along_y));
                    }
                }
                for d in paired + 1..=radius {
                    let along_y = costs.y[d];
                    let one = if d <= y { y - d } else { y + d };
                    if one >= rows {
                        break;
                    }
                    for i in 0..LANES {
                        least[i] = C::least(least[i], C::sum(panel[one][i], along_y));
                    }
                }
                for (to, least) in to[x..][..lanes].iter_mut().zip(&least) {
                    *to = costs.reach(*least);
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

/// The same for squares, by the lower envelope of the parabolas that stand on a column's rows, in a time that no radius
/// changes.
fn least_by_envelope<D: Distance, C: Cost>(
    distances: &[D],
    above: usize,
    costs: &Costs<'_, D, C>,
    width: usize,
    plane: &mut [D],
) {
    let rows = distances.len() / width;
    let far = costs.near.radius[2] + 1;
    // The parabolas of the envelope: the row and square each stands on, and the first row where it is the lowest.
    let mut envelope: Vec<(i64, i64, i64)> = Vec::with_capacity(rows);
    for x in 0..width {
        envelope.clear();
        for y in 0..rows {
            let distance = distances[y * width + x].get();
            if distance == far {
                continue;
            }
            let (y, square) = (y as i64, (distance * distance) as i64);
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
                    // Squares of distances within an image stay far below 2^53.
                    D::new(costs.near.reach(least as f64))
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
        fn compare<D: Distance + std::fmt::Debug, C: Cost>(radius: f64, seed: u32) {
            let near = Near::ball([radius; 3]);
            let costs = Costs::<D, C>::new(&near);
            let (rows, width, above) = (40 + seed as usize % 300, 70, 7);
            let far = near.radius[2] + 1;
            let mut state = seed;
            let distances: Vec<D> = (0..rows * width)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    D::new(if state >> 28 < 9 { far } else { (state >> 8) as usize % (far + 1) })
                })
                .collect();
            let mut direct = vec![D::default(); (rows - 2 * above) * width];
            let mut envelope = direct.clone();
            let mut panel = vec![[C::default(); LANES]; rows];
            least_directly(&distances, above, &costs, &mut panel, width, &mut direct);
            least_by_envelope(&distances, above, &costs, width, &mut envelope);
            assert!(direct == envelope, "{radius} {seed}");
        }
        for seed in 0..6 {
            for radius in [0.0, 1.0, 1.5, 3.0, 7.1, 31.7, 128.0, 254.0, 254.9] {
                compare::<u8, u16>(radius, seed * 51);
                compare::<u16, u32>(radius, seed * 51);
                compare::<u16, f64>(radius, seed * 51);
            }
            compare::<u16, u32>(300.5, seed * 51);
        }
    }
}
