use super::super::testing::{any_of, random_volume, sub_boxes};
use super::*;
use crate::simd::tests::on_each_level;

const MODES: [Boundary; 5] =
    [Boundary::Reflect, Boundary::Nearest, Boundary::Mirror, Boundary::Constant(2.0), Boundary::Constant(2.5)];

/// Adds up every window, outside the image too.
fn twin(mean: &Mean, input: &AnyVolume) -> Vec<f64> {
    let shape = input.region().shape();
    let extent = Extent { shape, planar: false };
    let image: Vec<f64> = with_volume!(input, v => v.data.iter().map(|v| v.to_f64()).collect());
    let constant = if let Boundary::Constant(value) = mean.boundary { value } else { f64::NAN };
    let value = |at: [isize; 3]| {
        let index: [Option<usize>; 3] = std::array::from_fn(|a| mean.boundary.index(at[a], shape[a]));
        match index {
            [Some(z), Some(y), Some(x)] => image[extent.linear([z, y, x]) as usize],
            _ => constant,
        }
    };
    (0..image.len())
        .map(|i| {
            let at = extent.at(i as u64);
            let first: [isize; 3] = std::array::from_fn(|a| at[a] as isize - (mean.size[a] / 2) as isize);
            let [depth, height, width] = mean.size.map(|width| width as isize);
            let voxels = depth * height * width;
            let sum: f64 = (0..voxels)
                .map(|i| value([first[0] + i / (height * width), first[1] + i / width % height, first[2] + i % width]))
                .sum();
            sum / voxels as f64
        })
        .collect()
}

fn values(volume: &AnyVolume) -> Vec<f64> {
    with_volume!(volume, v => v.data.iter().map(|v| v.to_f64()).collect())
}

#[test]
fn stays_within_the_promised_error_of_the_definition() {
    let shapes = [[5, 6, 7], [1, 9, 40], [1, 1, 1], [4, 1, 33], [7, 3, 1], [3, 5, 17]];
    let sizes = [[1, 1, 1], [3, 3, 3], [1, 5, 3], [9, 1, 1], [3, 1, 19]];
    for (i, shape) in shapes.into_iter().enumerate() {
        for dtype in Dtype::ALL {
            for boundary in MODES {
                for size in sizes {
                    let input = random_volume(dtype, Region::whole(shape), i as u64);
                    let mean = Mean { size, boundary };
                    let output = mean.apply(input.clone(), input.region(), Extent { shape, planar: false });
                    assert_eq!(output.dtype(), dtype.averaged());
                    let largest = values(&input).into_iter().fold(2.5, |a: f64, v| a.max(v.abs()));
                    for (got, expected) in values(&output).into_iter().zip(twin(&mean, &input)) {
                        let rounding = if dtype == Dtype::F64 { 0.0 } else { (expected as f32).to_f64() - expected };
                        let error = (got - expected).abs() - rounding.abs();
                        assert!(error <= 1e-14 * largest, "{dtype} {mean:?} {got} {expected}");
                    }
                }
            }
        }
    }
}

#[test]
fn sums_of_integers_are_exact() {
    // In f64 the small voxels would be lost among the large ones.
    let voxels = vec![u32::MAX, 1, u32::MAX, 1, u32::MAX];
    let mean = Mean { size: [1, 1, 1023], boundary: Boundary::Constant(0.0) };
    let input = any_of([1, 1, 5], voxels);
    let exact = (3.0 * f64::from(u32::MAX) + 2.0) / 1023.0;
    let output = mean.apply(input.clone(), input.region(), Extent { shape: [1, 1, 5], planar: false });
    assert!(values(&output).into_iter().all(|v| v == f64::from(exact as f32)));
    // The window's sum runs over 40 voxels and comes back to nothing.
    let mut line = vec![0i32; 40];
    line[..20].fill(i32::MIN);
    let output = Mean { size: [1, 1, 3], boundary: Boundary::Nearest }.apply(
        any_of([1, 1, 40], line),
        Region::whole([1, 1, 40]),
        Extent { shape: [1, 1, 40], planar: true },
    );
    assert!(values(&output)[21..].iter().all(|v| *v == 0.0));
}

#[test]
fn a_part_equals_the_same_part_of_the_whole() {
    for shape in [[6, 7, 50], [1, 30, 35], [20, 3, 2]] {
        for dtype in Dtype::ALL {
            for boundary in MODES {
                let extent = Extent { shape, planar: shape[0] == 1 };
                let mean = Mean { size: [3, 7, 11], boundary };
                let input = random_volume(dtype, extent.region(), 5);
                let whole = mean.apply(input.clone(), extent.region(), extent);
                for part in sub_boxes(shape, 6) {
                    let read = input.cropped(part.grown(mean.halo(), shape));
                    assert_eq!(mean.apply(read, part, extent), whole.cropped(part));
                    assert_eq!(mean.apply(input.clone(), part, extent), whole.cropped(part));
                }
            }
        }
    }
}

#[test]
fn levels_give_equal_bits() {
    let extent = Extent { shape: [6, 9, 70], planar: false };
    let mean = Mean { size: [5, 3, 7], boundary: Boundary::Mirror };
    for dtype in Dtype::ALL {
        let input = random_volume(dtype, extent.region(), 9);
        let here = mean.apply(input.clone(), extent.region(), extent);
        let each = on_each_level(|| mean.apply(input.clone(), extent.region(), extent).to_le_bytes());
        assert_eq!(here.to_le_bytes(), each, "{dtype}");
    }
}

#[test]
fn what_is_not_finite_spreads_over_the_window_and_no_farther() {
    let extent = Extent { shape: [1, 1, 12], planar: true };
    let run = |at: &[(usize, f32)], boundary| {
        let mut voxels = vec![1.0f32; 12];
        at.iter().for_each(|(i, v)| voxels[*i] = *v);
        let mean = Mean { size: [1, 1, 5], boundary };
        values(&mean.apply(any_of([1, 1, 12], voxels), extent.region(), extent))
    };
    let nan: Vec<bool> = run(&[(5, f32::NAN)], Boundary::Reflect).iter().map(|v| v.is_nan()).collect();
    assert_eq!(nan, std::array::from_fn::<_, 12, _>(|x| (3..=7).contains(&x)));
    let both = run(&[(3, f32::INFINITY), (6, f32::NEG_INFINITY)], Boundary::Reflect);
    let inf = f64::INFINITY;
    assert_eq!(both[..4], [1.0, inf, inf, inf]);
    assert!(both[4].is_nan() && both[5].is_nan());
    assert_eq!(both[6..], [-inf, -inf, -inf, 1.0, 1.0, 1.0]);
    let beyond = run(&[], Boundary::Constant(f64::NAN));
    assert_eq!(beyond.iter().filter(|v| v.is_nan()).count(), 4);
    assert_eq!(beyond[2..10], [1.0; 8]);
    // The sum of three would leave f32, not f64.
    assert_eq!(
        run(&[(0, f32::MAX), (1, f32::MAX), (2, f32::MAX), (3, f32::MAX), (4, f32::MAX)], Boundary::Nearest)[2],
        f64::from(f32::MAX)
    );
    let wire = serde_json::to_string(&Mean { size: [1, 3, 5], boundary: Boundary::Constant(f64::INFINITY) });
    assert!(serde_json::from_str::<Mean>(&wire.unwrap_or_default()).is_ok());
}
