use super::super::cast;
use super::super::testing::{random_volume, sub_boxes};
use super::*;
use crate::simd::tests::on_each_level;
use crate::threshold::{Threshold, threshold};

const MODES: [Boundary; 4] = [Boundary::Reflect, Boundary::Nearest, Boundary::Mirror, Boundary::Constant(2.5)];

/// The definition, one voxel at a time: `weighted` gets the values under the kernel and its weights.
fn twin(gaussian: &Gaussian, input: &AnyVolume, weighted: impl Fn(&[f64], &[f64]) -> f64) -> Vec<f64> {
    let shape = input.region().shape();
    let mut image: Vec<f64> = with_volume!(input, v => v.data.iter().map(|v| v.to_f64()).collect());
    for axis in 0..3 {
        let taps = &gaussian.taps[axis];
        if taps.is_empty() {
            continue;
        }
        let extent = Extent { shape, planar: false };
        image = (0..image.len())
            .map(|i| {
                let at = extent.at(i as u64);
                let value = |k: usize| {
                    let index = (at[axis] + k) as isize - (taps.len() / 2) as isize;
                    let mut from = at;
                    match gaussian.boundary.index(index, shape[axis]) {
                        Some(index) => {
                            from[axis] = index;
                            image[extent.linear(from) as usize]
                        }
                        None => 2.5,
                    }
                };
                let under: Vec<f64> = (0..taps.len()).map(value).collect();
                weighted(&under, taps)
            })
            .collect();
    }
    image
}

/// The sum in plain order, without rounding between axes.
fn plain(values: &[f64], taps: &[f64]) -> f64 {
    values.iter().zip(taps).map(|(value, weight)| value * weight).sum()
}

/// The sum as scipy orders it: the centre, then pairs from the ends inwards.
fn ordered(values: &[f64], taps: &[f64]) -> f64 {
    let last = taps.len() - 1;
    let centre = values[last / 2] * taps[last / 2];
    (0..last / 2).fold(centre, |sum, k| sum + (values[k] + values[last - k]) * taps[k])
}

fn values(volume: &AnyVolume) -> Vec<f64> {
    with_volume!(volume, v => v.data.iter().map(|v| v.to_f64()).collect())
}

#[test]
fn stays_within_the_promised_error_of_the_definition() {
    let shapes = [[5, 6, 7], [1, 9, 40], [1, 1, 1], [4, 1, 33], [7, 3, 1], [3, 5, 17]];
    for (i, shape) in shapes.into_iter().enumerate() {
        for dtype in Dtype::ALL {
            for boundary in MODES {
                for sigma in [[0.0; 3], [1.0; 3], [0.0, 2.0, 0.5], [0.7, 0.0, 3.0]] {
                    let input = random_volume(dtype, Region::whole(shape), i as u64);
                    let gaussian = Gaussian::new(sigma, 4.0, boundary);
                    let region = input.region();
                    let output = gaussian.apply(input.clone(), region, Extent { shape, planar: false });
                    assert_eq!(output.dtype(), dtype.averaged());
                    let largest = values(&input).into_iter().fold(2.5, |a: f64, v| a.max(v.abs()));
                    for (got, expected) in values(&output).into_iter().zip(twin(&gaussian, &input, plain)) {
                        let rounding = if dtype == Dtype::F64 { 0.0 } else { (expected as f32).to_f64() - expected };
                        let bound = if dtype == Dtype::F64 { 1e-14 } else { 2e-7 };
                        let error = (got - expected).abs() - rounding.abs();
                        assert!(error <= bound * largest, "{dtype} {boundary:?} {sigma:?} {got} {expected}");
                    }
                }
            }
        }
    }
}

#[test]
fn bits_are_those_of_sums_in_scipys_order() {
    // More planes than go through at a time, and rows of a few strips and of less than one.
    for shape in [[2 * SLAB + 3, 5, 2 * Doubles::COUNT + 6], [1, 40, 70], [3, 2, 5], [17, 1, 1]] {
        for dtype in [Dtype::U8, Dtype::I64, Dtype::F32, Dtype::F64] {
            for boundary in MODES {
                for sigma in [[1.0; 3], [0.6, 2.0, 0.0], [1.5, 0.0, 0.0], [0.0, 0.0, 3.0], [2.0, 0.0, 1.0]] {
                    let input = random_volume(dtype, Region::whole(shape), 4);
                    let gaussian = Gaussian::new(sigma, 3.0, boundary);
                    let output = gaussian.apply(input.clone(), input.region(), Extent { shape, planar: false });
                    let round = |sum: f64| if dtype == Dtype::F64 { sum } else { f64::from(sum as f32) };
                    let expected = twin(&gaussian, &input, |values, taps| round(ordered(values, taps)));
                    assert_eq!(values(&output), expected, "{dtype} {boundary:?} {sigma:?} {shape:?}");
                }
            }
        }
    }
}

#[test]
fn a_part_equals_the_same_part_of_the_whole() {
    for shape in [[6, 7, 50], [1, 30, 35], [20, 3, 2]] {
        for dtype in [Dtype::U8, Dtype::I64, Dtype::F32, Dtype::F64, Dtype::Bool] {
            for boundary in MODES {
                let extent = Extent { shape, planar: shape[0] == 1 };
                let gaussian = Gaussian::new([0.8, 2.0, 1.5], 3.0, boundary);
                let input = random_volume(dtype, extent.region(), 5);
                let whole = gaussian.apply(input.clone(), extent.region(), extent);
                for part in sub_boxes(shape, 6) {
                    let read = input.cropped(part.grown(gaussian.halo(), shape));
                    assert_eq!(gaussian.apply(read, part, extent), whole.cropped(part));
                    assert_eq!(gaussian.apply(input.clone(), part, extent), whole.cropped(part));
                }
            }
        }
    }
}

#[test]
fn levels_give_equal_bits() {
    let extent = Extent { shape: [6, 9, 70], planar: false };
    let gaussian = Gaussian::new([1.0, 0.6, 2.0], 4.0, Boundary::Mirror);
    for dtype in Dtype::ALL {
        let input = random_volume(dtype, extent.region(), 9);
        let here = gaussian.apply(input.clone(), extent.region(), extent);
        let each = on_each_level(|| gaussian.apply(input.clone(), extent.region(), extent).to_le_bytes());
        assert_eq!(here.to_le_bytes(), each, "{dtype}");
    }
}

#[test]
fn nan_spreads_over_the_window_and_no_farther() {
    let shape = [1, 1, 12];
    let mut voxels = vec![1.0f32; 12];
    voxels[5] = f32::NAN;
    let gaussian = Gaussian::new([0.0, 0.0, 0.5], 4.0, Boundary::Reflect);
    let extent = Extent { shape, planar: true };
    let input: AnyVolume = Volume::new(extent.region(), voxels).into();
    let nan: Vec<bool> = values(&gaussian.apply(input, extent.region(), extent)).iter().map(|v| v.is_nan()).collect();
    assert_eq!(nan, std::array::from_fn::<_, 12, _>(|x| (3..=7).contains(&x)));
}

#[test]
fn kernels_are_scipys() {
    // scipy.ndimage._filters._gaussian_kernel1d(1.0, 0, 4), its upper half.
    let gaussian = Gaussian::new([1.0, 0.0, 0.1], 4.0, Boundary::Reflect);
    let expected =
        [0.3989434693560978, 0.24197144565660073, 0.05399112742070441, 0.004431861620031266, 0.00013383062461474175];
    assert_eq!(gaussian.halo(), [4, 0, 0]);
    for (k, expected) in expected.into_iter().enumerate() {
        assert!((gaussian.taps[0][4 + k] - expected).abs() < 1e-16);
        assert_eq!(gaussian.taps[0][4 + k], gaussian.taps[0][4 - k]);
    }
    let wire = serde_json::to_string(&gaussian).unwrap_or_default();
    assert_eq!(serde_json::from_str::<Gaussian>(&wire).ok(), Some(gaussian));
}

/// What [`Gaussian::stream`] gives, put together.
fn streamed(gaussian: &Gaussian, input: AnyVolume, out: Region, extent: Extent, cut: Cut) -> AnyVolume {
    let mut all = AnyVolume::without_planes(input.dtype().averaged(), out);
    gaussian.stream(Input::Whole(input), out, extent, Some(cut), &mut |planes| all.add_planes(&planes));
    all
}

/// Which voxels pass.
fn passed(smooth: AnyVolume, cut: Cut) -> AnyVolume {
    let out = smooth.region();
    threshold(smooth, out, &Threshold { cut, invert: false })
}

/// Volumes of all kinds: noise, also from -100 on, nothing, a constant, and little but a few tiny numbers.
fn kinds(dtype: Dtype, region: Region) -> Vec<AnyVolume> {
    let noise = random_volume(dtype, region, 7);
    let of = |value: &dyn Fn(usize) -> f64| {
        let data = (0..region.voxels()).map(value).collect::<Vec<f64>>();
        cast(Volume::new(region, data).into(), region, dtype)
    };
    let tiny = |i: usize| if i % 50 == 3 { 1e-30 } else { 0.0 };
    vec![noise, of(&|i| (i * 7919 % 251) as f64 - 100.0), of(&|_| 0.0), of(&|_| 3.0), of(&tiny)]
}

#[test]
fn what_is_decided_quickly_is_what_the_exact_values_decide() {
    for (shape, sigma) in [
        ([2 * SLAB + 3, 9, 40], [1.0; 3]),
        ([1, 40, 70], [0.0, 2.0, 1.0]),
        ([19, 3, 5], [1.5, 0.0, 0.0]),
        ([5, 6, 80], [0.0, 0.0, 4.0]),
        ([18, 20, 7], [0.5, 2.0, 0.0]),
    ] {
        for dtype in [Dtype::Bool, Dtype::U8, Dtype::I16, Dtype::U32, Dtype::F32, Dtype::F64] {
            for boundary in MODES {
                let gaussian = Gaussian::new(sigma, 3.0, boundary);
                let extent = Extent { shape, planar: false };
                for input in kinds(dtype, extent.region()) {
                    let exact = gaussian.apply(input.clone(), extent.region(), extent);
                    let values = values(&exact);
                    // Numbers that voxels are equal to are the hardest to decide.
                    let (one, other) = (values[values.len() / 3], values[values.len() / 2]);
                    for cut in [
                        Cut::Above(one),
                        Cut::Below(other),
                        Cut::Between(one, one),
                        Cut::Above(0.0),
                        Cut::Between(f64::NEG_INFINITY, f64::NAN),
                    ] {
                        let quick = streamed(&gaussian, input.clone(), extent.region(), extent, cut);
                        assert!(
                            passed(quick, cut) == passed(exact.clone(), cut),
                            "{dtype} {boundary:?} {sigma:?} {shape:?} {cut:?}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_rescaled_when_it_is_read_is_decided_as_what_was_rescaled_before() {
    let line = |multiply, divide, add, invert| Rescale { multiply, divide, add, invert };
    let rescales = [
        line(1.0, 255.0, 0.0, true),
        line(3.0, 7.0, -100.0, false),
        line(1.0, 1.0, 0.0, false),
        line(0.0, 1.0, 2.5, false),
        line(1.0, 0.0, 0.0, false),
        line(1e-40, 1.0, 0.0, false),
        line(1e30, 1.0, 1e36, true),
        // Its products have lost most of their digits.
        line(3e-322, 3e-322, 0.0, false),
    ];
    for (shape, sigma) in [
        ([2 * SLAB + 3, 9, 40], [1.0; 3]),
        ([1, 40, 70], [0.0, 2.0, 1.0]),
        ([5, 6, 80], [0.0, 0.0, 4.0]),
        ([3; 3], [0.0; 3]),
    ] {
        let extent = Extent { shape, planar: false };
        let out = extent.region();
        for dtype in [Dtype::Bool, Dtype::U8, Dtype::I8, Dtype::U16, Dtype::I16, Dtype::I32, Dtype::F64] {
            for (rescale, boundary) in rescales.into_iter().flat_map(|rescale| MODES.map(|mode| (rescale, mode))) {
                let gaussian = Gaussian::new(sigma, 3.0, boundary);
                let white = cast(Volume::new(out, vec![255.0; out.voxels()]).into(), out, dtype);
                for input in kinds(dtype, out).into_iter().chain([white]) {
                    let exact = gaussian.apply(rescale.apply(input.clone(), out), out, extent);
                    let values = values(&exact);
                    let of = |cut| {
                        let mut all = AnyVolume::without_planes(dtype.averaged(), out);
                        let input = Input::Rescaled(input.clone(), rescale);
                        gaussian.stream(input, out, extent, cut, &mut |planes| all.add_planes(&planes));
                        all
                    };
                    assert_eq!(
                        of(None).to_le_bytes(),
                        exact.to_le_bytes(),
                        "{dtype} {boundary:?} {sigma:?} {rescale:?}"
                    );
                    for cut in
                        [Cut::Above(values[values.len() / 3]), Cut::Below(values[values.len() / 2]), Cut::Above(0.5)]
                    {
                        assert!(
                            passed(of(Some(cut)), cut) == passed(exact.clone(), cut),
                            "{dtype} {boundary:?} {sigma:?} {shape:?} {rescale:?} {cut:?}"
                        );
                    }
                }
            }
        }
    }
}

/// They are not exact, so they were quick, and as near as is said.
#[test]
fn rescaled_bytes_are_smoothed_quickly() {
    let extent = Extent { shape: [20, 30, 70], planar: false };
    let out = extent.region();
    let gaussian = Gaussian::new([3.0, 6.0, 6.0], 4.0, Boundary::Reflect);
    let rescale = Rescale { divide: 255.0, invert: true, ..Rescale::default() };
    let input = random_volume(Dtype::U8, out, 7);
    let exact = values(&gaussian.apply(rescale.apply(input.clone(), out), out, extent));
    let mut quick = AnyVolume::without_planes(Dtype::F32, out);
    let take = &mut |planes: AnyVolume| quick.add_planes(&planes);
    gaussian.stream(Input::Rescaled(input, rescale), out, extent, Some(Cut::Above(1e30)), take);
    let most = decide::error(&gaussian) + 1e-6;
    let away = values(&quick).iter().zip(&exact).map(|(quick, exact)| (quick - exact).abs()).fold(0.0, f64::max);
    assert!(away > 0.0 && away <= most, "{away} of {most}");
}

#[test]
fn quick_values_are_as_near_as_is_said() {
    let extent = Extent { shape: [20, 30, 70], planar: false };
    let out = extent.region();
    // On no side of it is anything.
    let cut = Cut::Above(1e30);
    for sigma in [[1.0; 3], [3.0, 6.0, 6.0], [0.0, 0.0, 9.0]] {
        let gaussian = Gaussian::new(sigma, 4.0, Boundary::Reflect);
        for dtype in [Dtype::U8, Dtype::U16, Dtype::I16, Dtype::F32] {
            for input in kinds(dtype, out) {
                let pairs = |v: &AnyVolume| values(&gaussian.apply(v.clone(), out, extent));
                let exact = pairs(&input);
                let quick = values(&streamed(&gaussian, input.clone(), out, extent, cut));
                let largest = values(&input).into_iter().fold(0.0, |a: f64, v| a.max(v.abs()));
                let is_signed = values(&input).into_iter().any(|v| v < 0.0);
                for (quick, exact) in quick.iter().zip(&exact) {
                    let most = decide::error(&gaussian) * if is_signed { largest } else { *exact };
                    assert!((quick - exact).abs() <= most, "{dtype} {sigma:?} {quick} {exact}");
                }
                // Of tiny numbers it would lose too much.
                if largest >= 1.0 && exact.iter().any(|value| *value != exact[0]) {
                    assert!(quick != exact, "{dtype} {sigma:?}: it was exact, and so not quick");
                }
            }
        }
    }
}

#[test]
fn what_is_not_finite_is_smoothed_exactly() {
    let extent = Extent { shape: [20, 5, 40], planar: false };
    let gaussian = Gaussian::new([1.0; 3], 4.0, Boundary::Reflect);
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e38] {
        let mut data = vec![2.5; extent.region().voxels()];
        data[1234] = odd;
        let input: AnyVolume = Volume::new(extent.region(), data).into();
        let exact = gaussian.apply(input.clone(), extent.region(), extent);
        let quick = streamed(&gaussian, input, extent.region(), extent, Cut::Above(2.5));
        assert_eq!(quick.to_le_bytes(), exact.to_le_bytes(), "{odd}");
    }
}

#[test]
fn levels_decide_the_same() {
    let extent = Extent { shape: [20, 9, 70], planar: false };
    let gaussian = Gaussian::new([1.0, 0.6, 2.0], 4.0, Boundary::Mirror);
    for dtype in Dtype::ALL {
        let (input, cut) = (random_volume(dtype, extent.region(), 9), Cut::Above(40.0));
        let quick = || passed(streamed(&gaussian, input.clone(), extent.region(), extent, cut), cut);
        assert_eq!(quick().to_le_bytes(), on_each_level(|| quick().to_le_bytes()), "{dtype}");
    }
}
