use super::*;
use crate::Element;
use crate::filter::testing::{Random, random_volume, sub_boxes};
use crate::simd::tests::on_baseline;

type Op = fn(AnyVolume, Region, Extent, Ball, Outside) -> AnyVolume;
const OPS: [(&str, Op); 4] = [
    ("erode", erode),
    ("dilate", |v, out, extent, ball, _| dilate(v, out, extent, ball)),
    ("open", open),
    ("close", close),
];

/// Each voxel against each offset of the ball. `any`: is some voxel of the ball set, rather than all; `outside` is what
/// is seen beyond the image.
fn over_offsets(image: &[bool], extent: Extent, radius: f64, any: bool, outside: bool) -> Vec<bool> {
    let r = radius as isize;
    let depth = if extent.planar { 0 } else { r };
    (0..image.len())
        .map(|i| {
            let at = extent.at(i as u64);
            let mut found = !any;
            for dz in -depth..=depth {
                for dy in -r..=r {
                    for dx in -r..=r {
                        if (dz * dz + dy * dy + dx * dx) as f64 > radius * radius {
                            continue;
                        }
                        let to = [at[0] as isize + dz, at[1] as isize + dy, at[2] as isize + dx];
                        let inside = (0..3).all(|a| (0..extent.shape[a] as isize).contains(&to[a]));
                        let seen = if inside { image[extent.linear(to.map(|i| i as usize)) as usize] } else { outside };
                        if any { found |= seen } else { found &= seen }
                    }
                }
            }
            found
        })
        .collect()
}

fn twin(name: &str, image: &[bool], extent: Extent, radius: f64, outside: Outside) -> Vec<bool> {
    let eroded = |image: &[bool]| over_offsets(image, extent, radius, false, outside == Outside::Ignore);
    let dilated = |image: &[bool]| over_offsets(image, extent, radius, true, false);
    match name {
        "erode" => eroded(image),
        "dilate" => dilated(image),
        "open" => dilated(&eroded(image)),
        _ => eroded(&dilated(image)),
    }
}

/// Images in which `sparse` in a hundred voxels differ from the rest.
fn speckled(extent: Extent, sparse: usize, seed: u64) -> Volume<bool> {
    let mut random = Random::new(seed);
    let data = (0..extent.region().voxels()).map(|_| (random.below(100) < sparse) != seed.is_multiple_of(2)).collect();
    Volume::new(extent.region(), data)
}

fn bools(volume: AnyVolume) -> Vec<bool> {
    let AnyVolume::Bool(volume) = volume else { panic!("morphology gives bool") };
    volume.data
}

#[test]
fn every_operation_agrees_with_the_offsets_of_the_ball() {
    for (i, shape) in [[5, 6, 9], [1, 9, 21], [1, 1, 1], [1, 1, 30], [8, 1, 5], [9, 10, 1]].into_iter().enumerate() {
        for planar in [false, true].into_iter().filter(|planar| shape[0] == 1 || !planar) {
            let extent = Extent { shape, planar };
            for radius in [0.0, 0.9, 1.0, 1.5, 2.0, 2.3, 3.0, 4.5, 12.0] {
                for sparse in [0, 2, 30] {
                    let input = speckled(extent, sparse, i as u64);
                    let ball = Ball { radius };
                    for outside in [Outside::Ignore, Outside::Zero] {
                        for (name, op) in OPS {
                            let output = bools(op(input.clone().into(), extent.region(), extent, ball, outside));
                            let expected = twin(name, &input.data, extent, radius, outside);
                            assert_eq!(output, expected, "{name} {radius} {outside:?} {extent:?} {sparse}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_part_equals_the_same_part_of_the_whole() {
    for shape in [[12, 14, 70], [1, 40, 45]] {
        let extent = Extent { shape, planar: shape[0] == 1 };
        for (radius, sparse) in [(1.0, 30), (2.5, 3), (4.0, 1), (140.0, 1), (300.0, 1)] {
            let ball = Ball { radius };
            let input: AnyVolume = speckled(extent, sparse, sparse as u64).into();
            for outside in [Outside::Ignore, Outside::Zero] {
                for (name, op) in OPS {
                    let halo =
                        if ["erode", "dilate"].contains(&name) { ball.halo(extent) } else { ball.halo_twice(extent) };
                    let whole = op(input.clone(), extent.region(), extent, ball, outside);
                    for part in sub_boxes(shape, 4) {
                        let read = input.cropped(part.grown(halo, shape));
                        assert_eq!(op(read, part, extent, ball, outside), whole.cropped(part), "{name} {radius}");
                        assert_eq!(op(input.clone(), part, extent, ball, outside), whole.cropped(part));
                    }
                }
            }
        }
    }
}

/// One seed grows to the ball itself, whatever integers count the distances.
#[test]
fn a_large_ball_is_round() {
    for radius in [100.0, 127.9, 129.0, 254.5, 255.0, 299.7] {
        let n = 2 * radius as usize + 3;
        let middle = (n / 2) as i64;
        for shape in [[1, n, n], [7, n, 9]] {
            let extent = Extent { shape, planar: shape[0] == 1 };
            let seed = shape.map(|n| n / 2);
            let mut input = Volume::zeros(extent.region());
            input.data[extent.linear(seed) as usize] = true;
            let ball = Ball { radius };
            let grown = bools(dilate(input.into(), extent.region(), extent, ball));
            for (i, voxel) in grown.into_iter().enumerate() {
                let at = extent.at(i as u64);
                let squared: i64 = (0..3).map(|a| (at[a] as i64 - seed[a] as i64).pow(2)).sum();
                assert_eq!(voxel, squared as f64 <= radius * radius, "{radius} {at:?} {middle}");
            }
        }
    }
}

#[test]
fn any_type_will_do_and_what_is_not_zero_is_foreground() {
    let extent = Extent { shape: [3, 5, 11], planar: false };
    for dtype in Dtype::ALL {
        let input = random_volume(dtype, extent.region(), 4);
        let foreground =
            Volume::new(extent.region(), with_volume!(&input, v => v.data.iter().map(|v| v.is_foreground()).collect()));
        let ball = Ball { radius: 1.0 };
        assert_eq!(
            dilate(input, extent.region(), extent, ball),
            dilate(AnyVolume::Bool(foreground), extent.region(), extent, ball)
        );
    }
}

#[test]
fn ignoring_the_outside_closing_removes_nothing_and_opening_adds_nothing() {
    let extent = Extent { shape: [9, 9, 9], planar: false };
    for seed in 0..6 {
        let input = speckled(extent, 20, seed);
        let ball = Ball { radius: 1.0 + seed as f64 / 2.0 };
        let closed = bools(close(input.clone().into(), extent.region(), extent, ball, Outside::Ignore));
        let opened = bools(open(input.clone().into(), extent.region(), extent, ball, Outside::Ignore));
        for (i, voxel) in input.data.into_iter().enumerate() {
            assert!(closed[i] >= voxel && opened[i] <= voxel);
        }
    }
}

#[test]
fn baseline_and_avx2_give_equal_voxels() {
    let extent = Extent { shape: [9, 20, 70], planar: false };
    let input: AnyVolume = speckled(extent, 2, 1).into();
    for radius in [3.0, 300.0] {
        let run = || dilate(input.clone(), extent.region(), extent, Ball { radius });
        assert_eq!(run(), on_baseline(run));
    }
}

/// Radii a plan would refuse harm nobody.
#[test]
fn nonsense_radii_do_not_panic() {
    let extent = Extent { shape: [2, 3, 4], planar: false };
    let input: AnyVolume = speckled(extent, 50, 1).into();
    for (radius, halo) in [(-3.0, 0), (f64::NAN, 0), (1e300, 65_534), (f64::INFINITY, 65_534)] {
        let ball = Ball { radius };
        assert_eq!(ball.halo(extent), [halo; 3]);
        let all = close(input.clone(), extent.region(), extent, ball, Outside::Ignore);
        assert!(halo == 0 || bools(all).into_iter().all(|v| v));
    }
}
