use super::*;
use crate::filter::testing::{Random, random_volume, sub_boxes};
use crate::simd::tests::on_each_level;

type Op = fn(AnyVolume, Region, Extent, Footprint, Outside) -> AnyVolume;
const OPS: [(&str, Op); 4] = [
    ("erode", erode),
    ("dilate", |v, out, extent, footprint, _| dilate(v, out, extent, footprint)),
    ("open", open),
    ("close", close),
];

fn ball(radius: f64) -> Footprint {
    Footprint::Ball([radius; 3])
}

/// Whether an offset belongs, as the documentation of the footprints has it.
fn belongs(footprint: Footprint, d: [isize; 3]) -> bool {
    match footprint {
        Footprint::Ball([rz, ry, rx]) if rz == ry && ry == rx => {
            (d[0] * d[0] + d[1] * d[1] + d[2] * d[2]) as f64 <= rz * rz
        }
        // Radii in halves: (d / r)² = 4 d² / (2 r)², all of it multiplied by the product of the squares.
        Footprint::Ball(radii) => {
            let halves = radii.map(|r| (2.0 * r) as i128);
            let along = || (0..3).filter(|a| halves[*a] > 0);
            let all: i128 = along().map(|a| halves[a] * halves[a]).product();
            let sum: i128 = along().map(|a| 4 * (d[a] * d[a]) as i128 * (all / (halves[a] * halves[a]))).sum();
            sum <= all && (0..3).all(|a| halves[a] > 0 || d[a] == 0)
        }
        Footprint::Box(radii) => (0..3).all(|a| d[a].unsigned_abs() <= radii[a]),
        Footprint::Cross(radius) => d.iter().map(|d| d.unsigned_abs()).sum::<usize>() <= radius,
    }
}

/// Each voxel against each offset of the footprint. `any`: is some voxel of it set, rather than all; `outside` is what
/// is seen beyond the image.
fn over_offsets(image: &[bool], extent: Extent, footprint: Footprint, any: bool, outside: bool) -> Vec<bool> {
    let [rz, ry, rx] = footprint.halo(extent).map(|r| r as isize);
    let offsets: Vec<[isize; 3]> = (-rz..=rz)
        .flat_map(|dz| (-ry..=ry).flat_map(move |dy| (-rx..=rx).map(move |dx| [dz, dy, dx])))
        .filter(|d| belongs(footprint, *d))
        .collect();
    (0..image.len())
        .map(|i| {
            let at = extent.at(i as u64);
            let mut found = !any;
            for d in &offsets {
                let to: [isize; 3] = std::array::from_fn(|a| at[a] as isize + d[a]);
                let inside = (0..3).all(|a| (0..extent.shape[a] as isize).contains(&to[a]));
                let seen = if inside { image[extent.linear(to.map(|i| i as usize)) as usize] } else { outside };
                if any { found |= seen } else { found &= seen }
            }
            found
        })
        .collect()
}

fn twin(name: &str, image: &[bool], extent: Extent, footprint: Footprint, outside: Outside) -> Vec<bool> {
    let eroded = |image: &[bool]| over_offsets(image, extent, footprint, false, outside == Outside::Ignore);
    let dilated = |image: &[bool]| over_offsets(image, extent, footprint, true, false);
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
fn every_operation_agrees_with_the_offsets_of_its_footprint() {
    let balls = [0.0, 0.9, 1.0, 1.5, 2.0, 2.3, 3.0, 4.5, 12.0].map(ball);
    let others = [
        Footprint::Ball([1.0, 3.0, 2.0]),
        Footprint::Ball([0.0, 2.5, 4.5]),
        Footprint::Ball([3.0, 0.0, 5.0]),
        Footprint::Ball([0.5, 1.0, 11.5]),
        Footprint::Ball([7.0, 5.5, 0.0]),
        Footprint::Box([0, 0, 0]),
        Footprint::Box([1, 1, 1]),
        Footprint::Box([0, 3, 1]),
        Footprint::Box([2, 0, 17]),
        Footprint::Box([9, 12, 2]),
        Footprint::Cross(1),
        Footprint::Cross(2),
        Footprint::Cross(5),
        Footprint::Cross(40),
    ];
    let footprints = || balls.into_iter().chain(others);
    for (i, shape) in [[5, 6, 9], [1, 9, 21], [1, 1, 1], [1, 1, 30], [8, 1, 5], [9, 10, 1]].into_iter().enumerate() {
        for planar in [false, true].into_iter().filter(|planar| shape[0] == 1 || !planar) {
            let extent = Extent { shape, planar };
            for footprint in footprints() {
                for sparse in [0, 2, 30] {
                    let input = speckled(extent, sparse, i as u64);
                    for outside in [Outside::Ignore, Outside::Zero] {
                        for (name, op) in OPS {
                            let output = bools(op(input.clone().into(), extent.region(), extent, footprint, outside));
                            let expected = twin(name, &input.data, extent, footprint, outside);
                            assert_eq!(output, expected, "{name} {footprint:?} {outside:?} {extent:?} {sparse}");
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
        let balls = [(1.0, 30), (2.5, 3), (4.0, 1), (140.0, 1), (300.0, 1)].map(|(r, sparse)| (ball(r), sparse));
        let others = [
            (Footprint::Ball([2.0, 3.5, 5.0]), 2),
            (Footprint::Ball([2.3, 3.1, 150.7]), 2),
            (Footprint::Ball([300.0, 200.0, 1.0]), 1),
            (Footprint::Box([1, 0, 2]), 9),
            (Footprint::Box([5, 50, 3]), 1),
            (Footprint::Cross(3), 3),
            (Footprint::Cross(260), 1),
        ];
        for (footprint, sparse) in balls.into_iter().chain(others) {
            let input: AnyVolume = speckled(extent, sparse, sparse as u64).into();
            for outside in [Outside::Ignore, Outside::Zero] {
                for (name, op) in OPS {
                    let once = ["erode", "dilate"].contains(&name);
                    let halo = if once { footprint.halo(extent) } else { footprint.halo_twice(extent) };
                    let whole = op(input.clone(), extent.region(), extent, footprint, outside);
                    for part in sub_boxes(shape, 4) {
                        let read = input.cropped(part.grown(halo, shape));
                        let cut = whole.cropped(part);
                        assert_eq!(op(read, part, extent, footprint, outside), cut, "{name} {footprint:?}");
                        assert_eq!(op(input.clone(), part, extent, footprint, outside), cut);
                    }
                }
            }
        }
    }
}

/// Small footprints on bits against the distances that large ones are left to, over many tiles and part ones.
#[test]
fn chords_and_distances_agree() {
    let balls = [1.0, 3.0, 5.0, 12.0, 20.5, 31.0].map(ball);
    let others = [
        Footprint::Ball([2.3, 3.1, 5.7]),
        Footprint::Ball([0.0, 7.7, 40.3]),
        Footprint::Ball([9.0, 1.0, 60.0]),
        Footprint::Box([2, 70, 3]),
        Footprint::Box([1, 1, 63]),
        Footprint::Cross(6),
    ];
    for (i, shape) in [[5, 150, 200], [30, 40, 66], [1, 300, 600], [3, 17, 1100]].into_iter().enumerate() {
        for planar in [false, true].into_iter().filter(|planar| shape[0] == 1 || !planar) {
            let extent = Extent { shape, planar };
            let parts = [extent.region(), sub_boxes(shape, 1)[0]];
            for (footprint, seed) in balls.into_iter().chain(others).zip(i as u64..) {
                assert!(footprint.chords(extent).is_some());
                let mut input = speckled(extent, 1, seed);
                // Whole stretches without a speck, so that large footprints leave something.
                input.data.chunks_mut(19).step_by(2).for_each(|voxels| voxels.fill(seed.is_multiple_of(2)));
                let input = AnyVolume::from(input);
                for out in parts {
                    for outside in [Outside::Ignore, Outside::Zero] {
                        let eroded = erode(input.clone(), out, extent, footprint, outside);
                        let twin = eroded_by_distance(input.clone(), out, extent, footprint, outside);
                        assert!(eroded == twin, "{footprint:?} {outside:?} {extent:?} {out:?}");
                    }
                    let dilated = dilate(input.clone(), out, extent, footprint);
                    assert!(dilated == dilated_by_distance(input.clone(), out, extent, footprint), "{footprint:?}");
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
            let grown = bools(dilate(input.into(), extent.region(), extent, ball(radius)));
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
        for footprint in [ball(1.0), Footprint::Box([1, 0, 1])] {
            assert_eq!(
                dilate(input.clone(), extent.region(), extent, footprint),
                dilate(AnyVolume::Bool(foreground.clone()), extent.region(), extent, footprint)
            );
        }
    }
}

#[test]
fn ignoring_the_outside_closing_removes_nothing_and_opening_adds_nothing() {
    let extent = Extent { shape: [9, 9, 9], planar: false };
    for seed in 0..6 {
        let input = speckled(extent, 20, seed);
        let radius = 1.0 + seed as f64 / 2.0;
        for footprint in [ball(radius), Footprint::Box([1, 2, seed as usize]), Footprint::Cross(1 + seed as usize)] {
            let closed = bools(close(input.clone().into(), extent.region(), extent, footprint, Outside::Ignore));
            let opened = bools(open(input.clone().into(), extent.region(), extent, footprint, Outside::Ignore));
            for (i, voxel) in input.data.iter().enumerate() {
                assert!(closed[i] >= *voxel && opened[i] <= *voxel);
            }
        }
    }
}

#[test]
fn levels_give_equal_voxels() {
    let extent = Extent { shape: [9, 20, 70], planar: false };
    let input: AnyVolume = speckled(extent, 2, 1).into();
    let others = [Footprint::Ball([2.3, 3.1, 5.7]), Footprint::Box([1, 2, 3]), Footprint::Cross(4)];
    for footprint in [ball(3.0), ball(12.0), ball(300.0)].into_iter().chain(others) {
        let run = || dilate(input.clone(), extent.region(), extent, footprint);
        assert_eq!(run(), on_each_level(run));
    }
}

/// Radii a plan would refuse harm nobody.
#[test]
fn nonsense_radii_do_not_panic() {
    let extent = Extent { shape: [2, 3, 4], planar: false };
    let input: AnyVolume = speckled(extent, 50, 1).into();
    for (radius, halo) in [(-3.0, 0), (f64::NAN, 0), (1e300, 65_534), (f64::INFINITY, 65_534)] {
        let ball = ball(radius);
        assert_eq!(ball.halo(extent), [halo; 3]);
        let all = close(input.clone(), extent.region(), extent, ball, Outside::Ignore);
        assert!(halo == 0 || bools(all).into_iter().all(|v| v));
    }
}
