//! Which offsets belong to a structuring element, as a sum of what the distance along each axis costs.

/// All offsets whose distances along z, y, x cost no more than a limit, in sum. A cost grows with its distance, and is 0
/// for none.
#[derive(Clone, Debug)]
pub(super) struct Near {
    /// The largest distance along z, y, x that may belong to an offset.
    pub(super) radius: [usize; 3],
    /// The largest sum.
    pub(super) limit: f64,
    law: Law,
}

/// What a distance costs.
#[derive(Clone, Copy, Debug)]
enum Law {
    /// Itself.
    Linear,
    /// Its square times a whole weight for each axis, below 2^53 as far as it matters, so that sums are exact.
    Weighted([f64; 3]),
    /// The square of its ratio to the radius along each axis, in f64.
    Ratio([f64; 3]),
}

/// 2^53: below it f64 holds every integer.
const EXACT: f64 = 9_007_199_254_740_992.0;

impl Near {
    /// `sum |d| <= radius`; axes with `along` false have no extension.
    pub(super) fn cross(radius: usize, along: [bool; 3]) -> Self {
        Self { radius: along.map(|along| if along { radius } else { 0 }), limit: radius as f64, law: Law::Linear }
    }

    /// `sum (d / r)² <= 1` over the axes with r > 0, without extension along the others; `sum d² <= r²` where all r are
    /// one. Exact where the radii are multiples of 1/1024 and not too many-sided together, else in f64.
    pub(super) fn ball(radii: [f64; 3]) -> Self {
        // NaN becomes 0.
        let radii = radii.map(|r| r.clamp(0.0, super::RADIUS_MAX)).map(|r| if r.is_nan() { 0.0 } else { r });
        let radius = radii.map(|r| r as usize);
        let longest = radii.into_iter().fold(0.0, f64::max);
        if radii.iter().all(|r| *r == longest || *r == 0.0) {
            return Self { radius, limit: (longest * longest).floor(), law: Law::Weighted([1.0; 3]) };
        }
        match weighted(radii) {
            Some((weights, limit)) => Self { radius, limit, law: Law::Weighted(weights) },
            None => Self { radius, limit: 1.0, law: Law::Ratio(radii) },
        }
    }

    /// What the distance `d`, no more than the radius, costs along an axis.
    pub(super) fn cost(&self, axis: usize, d: usize) -> f64 {
        let d = d as f64;
        match self.law {
            Law::Linear => d,
            Law::Weighted(weights) => d * d * weights[axis],
            Law::Ratio(radii) if d > 0.0 => (d / radii[axis]) * (d / radii[axis]),
            Law::Ratio(_) => 0.0,
        }
    }

    /// Whether all costs are integers.
    pub(super) fn is_whole(&self) -> bool {
        !matches!(self.law, Law::Ratio(_))
    }

    /// Whether all axes cost the square of the distance itself.
    pub(super) fn is_round(&self) -> bool {
        matches!(self.law, Law::Weighted([1.0, 1.0, 1.0]))
    }

    /// One more than the largest distance along z that can be added to `cost`; 0 when that is more than the limit.
    #[inline(always)]
    pub(super) fn reach(&self, cost: f64) -> usize {
        if cost > self.limit {
            return 0;
        }
        let left = self.limit - cost;
        let guess = match self.law {
            Law::Linear => left,
            // The floor of a quotient of integers below 2^53 is right, and so is the root of such an integer.
            Law::Weighted(weights) => (left / weights[0]).floor().sqrt(),
            Law::Ratio(radii) => radii[0] * left.sqrt(),
        };
        let mut d = (guess as usize).min(self.radius[0]);
        if let Law::Ratio(_) = self.law {
            // The guess is rounded; what decides is the sum itself.
            while d > 0 && cost + self.cost(0, d) > self.limit {
                d -= 1;
            }
            while d < self.radius[0] && cost + self.cost(0, d + 1) <= self.limit {
                d += 1;
            }
        }
        d + 1
    }
}

/// Whole weights and a whole limit that say the same as `sum (d / r)² <= 1`; `None` when radii are no multiples of
/// 1/1024, or the numbers don't stay exact in f64.
fn weighted(radii: [f64; 3]) -> Option<([f64; 3], f64)> {
    const UNIT: f64 = 1024.0;
    if radii.iter().any(|r| (r * UNIT).fract() != 0.0) {
        return None;
    }
    // With L the least common multiple of the radii in units, d / r is d (L / r) / L.
    let units = radii.map(|r| (r * UNIT) as u128);
    let along = || units.into_iter().filter(|r| *r > 0);
    let multiple = along().fold(1, |a, b| a / gcd(a, b) * b);
    let weights = units.map(|r| multiple.checked_div(r).map_or(0.0, |ratio| ratio.pow(2) as f64));
    // Distances are in voxels and radii in units: sum d² w <= (L / UNIT)², of which the floor is as good.
    let limit = multiple.checked_pow(2)? / (UNIT as u128 * UNIT as u128);
    let limit = limit as f64;
    (limit < EXACT).then_some((weights, limit))
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(near: &Near, d: [usize; 3]) -> bool {
        (0..3).all(|a| d[a] <= near.radius[a]) && (0..3).map(|a| near.cost(a, d[a])).sum::<f64>() <= near.limit
    }

    /// In integers of 128 bits, for radii in quarters.
    #[test]
    fn balls_are_exact() {
        let quarters = [0u128, 1, 4, 5, 6, 10, 12, 20, 30, 52, 60];
        for rz in quarters {
            for ry in quarters {
                for rx in quarters {
                    let radii = [rz, ry, rx];
                    let near = Near::ball(radii.map(|r| r as f64 / 4.0));
                    assert!(near.is_whole());
                    for dz in 0..=near.radius[0] {
                        for dy in 0..=near.radius[1] {
                            for dx in 0..=near.radius[2] {
                                let d = [dz, dy, dx].map(|d| 4 * d as u128);
                                let along = || (0..3).filter(|a| radii[*a] > 0);
                                let all: u128 = along().map(|a| radii[a] * radii[a]).product();
                                let sum: u128 = along().map(|a| d[a] * d[a] * (all / (radii[a] * radii[a]))).sum();
                                assert_eq!(inside(&near, [dz, dy, dx]), sum <= all, "{radii:?} {dz} {dy} {dx}");
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn reach_is_the_largest_distance_that_fits() {
        let balls = [[3.0, 6.0, 6.0], [2.3, 4.1, 7.7], [1000.0, 999.0, 997.0], [0.0, 3.0, 4.0], [5.0; 3], [300.7; 3]];
        for near in
            balls.map(Near::ball).into_iter().chain([Near::cross(7, [true; 3]), Near::cross(9, [false, true, true])])
        {
            for i in 0..=200 {
                for cost in [near.limit * f64::from(i) / 200.0, near.cost(1, i as usize % (near.radius[1] + 1))] {
                    let cost = if near.is_whole() { cost.floor() } else { cost };
                    let expected = (0..=near.radius[0]).filter(|d| cost + near.cost(0, *d) <= near.limit).count();
                    assert_eq!(near.reach(cost), expected, "{near:?} {cost}");
                }
            }
            assert_eq!(near.reach(near.limit * 1.01 + 1.0), 0);
        }
    }

    #[test]
    fn odd_radii_are_compared_in_f64() {
        let near = Near::ball([2.3, 4.1, 7.7]);
        assert!(!near.is_whole());
        assert_eq!(near.radius, [2, 4, 7]);
        for (d, radius) in [(2, 2.3), (7, 7.7)] {
            assert!(near.cost(if d == 2 { 0 } else { 2 }, d) - (d as f64 / radius).powi(2) < 1e-15);
        }
        assert_eq!(Near::ball([f64::NAN, -1.0, 2.0]).radius, [0, 0, 2]);
        assert_eq!(Near::ball([1e300, 1.0, 2.0]).radius, [65_534, 1, 2]);
    }
}
