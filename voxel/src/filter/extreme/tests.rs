use super::super::testing::{Random, random_volume, sub_boxes};
use super::*;
use crate::simd::tests::on_each_level;
use crate::{AnyElement, Element};

const MODES: [Boundary; 4] = [Boundary::Reflect, Boundary::Nearest, Boundary::Mirror, Boundary::Constant(2.0)];
const ENDS: [End; 2] = [End::Minimum, End::Maximum];

/// Looks at every voxel of every window, outside the image too.
fn twin<T: AnyElement>(filter: &Extreme, input: &Volume<T>) -> Vec<u64> {
    let shape = input.region.shape();
    let extent = Extent { shape, planar: false };
    let key = |at: [isize; 3]| {
        let index: [Option<usize>; 3] = std::array::from_fn(|a| filter.boundary.index(at[a], shape[a]));
        match index {
            [Some(z), Some(y), Some(x)] => input.data[extent.linear([z, y, x]) as usize].key(),
            _ => T::from_f64(2.0).key(),
        }
    };
    (0..input.data.len())
        .map(|i| {
            let at = extent.at(i as u64);
            let first: [isize; 3] = std::array::from_fn(|a| at[a] as isize - (filter.size[a] / 2) as isize);
            let [depth, height, width] = filter.size.map(|width| width as isize);
            let window = (0..depth * height * width)
                .map(|i| key([first[0] + i / (height * width), first[1] + i / width % height, first[2] + i % width]));
            if filter.end == End::Minimum { window.min() } else { window.max() }.unwrap_or_default()
        })
        .collect()
}

fn keys(volume: &AnyVolume) -> Vec<u64> {
    with_volume!(volume, v => v.data.iter().map(|v| v.key()).collect())
}

#[test]
fn every_window_agrees_with_looking_at_all_of_it() {
    let shapes = [[4, 5, 37], [1, 6, 40], [1, 1, 1], [3, 1, 9], [5, 4, 1]];
    let sizes = [[1, 1, 1], [3, 3, 3], [1, 3, 5], [1, 1, 7], [5, 1, 1], [9, 5, 3], [3, 1, 43], [1, 13, 1]];
    for shape in shapes {
        for dtype in Dtype::ALL {
            for (i, size) in sizes.into_iter().enumerate() {
                for end in ENDS {
                    let filter = Extreme { end, size, boundary: MODES[i % 4] };
                    let input = random_volume(dtype, Region::whole(shape), i as u64);
                    let output = filter.apply(input.clone(), input.region(), Extent { shape, planar: false });
                    assert_eq!(output.dtype(), dtype);
                    assert_eq!(
                        keys(&output),
                        with_volume!(&input, v => twin(&filter, v)),
                        "{dtype} {filter:?} {shape:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn every_width_and_every_mode_agrees() {
    let shape = [6, 7, 11];
    let input = random_volume(Dtype::I16, Region::whole(shape), 3);
    for width in (1..=27).step_by(2) {
        for boundary in MODES {
            for end in ENDS {
                for size in [[width, 1, 1], [1, width, 1], [1, 1, width], [width, 3, 5]] {
                    let filter = Extreme { end, size, boundary };
                    let output = filter.apply(input.clone(), input.region(), Extent { shape, planar: false });
                    assert_eq!(keys(&output), with_volume!(&input, v => twin(&filter, v)), "{filter:?}");
                }
            }
        }
    }
}

#[test]
fn a_part_equals_the_same_part_of_the_whole() {
    for shape in [[6, 7, 40], [1, 20, 35]] {
        for (dtype, size) in [(Dtype::F32, [3, 3, 3]), (Dtype::U8, [5, 5, 7]), (Dtype::I64, [17, 1, 45])] {
            for boundary in MODES {
                for end in ENDS {
                    let extent = Extent { shape, planar: shape[0] == 1 };
                    let filter = Extreme { end, size, boundary };
                    let input = random_volume(dtype, extent.region(), 5);
                    let whole = filter.apply(input.clone(), extent.region(), extent);
                    for part in sub_boxes(shape, 6) {
                        let read = input.cropped(part.grown(filter.halo(), shape));
                        assert_eq!(filter.apply(read, part, extent), whole.cropped(part));
                        assert_eq!(filter.apply(input.clone(), part, extent), whole.cropped(part));
                    }
                }
            }
        }
    }
}

#[test]
fn levels_give_equal_values() {
    let extent = Extent { shape: [3, 5, 70], planar: false };
    for end in ENDS {
        let filter = Extreme { end, size: [3, 3, 9], boundary: Boundary::Constant(-1.0) };
        for dtype in Dtype::ALL {
            let input = random_volume(dtype, extent.region(), 2);
            let here = filter.apply(input.clone(), extent.region(), extent);
            assert_eq!(here, on_each_level(|| filter.apply(input.clone(), extent.region(), extent)));
        }
    }
}

#[test]
fn nan_sorts_last() {
    let extent = Extent { shape: [1, 1, 7], planar: true };
    let nan = f32::NAN;
    let voxels = vec![1.0, nan, nan, nan, -2.0, f32::NEG_INFINITY, f32::INFINITY];
    let run = |end| {
        let filter = Extreme { end, size: [1, 1, 3], boundary: Boundary::Nearest };
        let wire = serde_json::to_string(&filter).unwrap_or_default();
        assert_eq!(serde_json::from_str::<Extreme>(&wire).ok(), Some(filter));
        let input = Volume::new(extent.region(), voxels.clone()).into();
        let AnyVolume::F32(output) = filter.apply(input, extent.region(), extent) else { panic!("f32 stays f32") };
        output.data.iter().map(|v| v.to_string()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(run(End::Minimum), "1 1 NaN -2 -inf -inf -inf");
    assert_eq!(run(End::Maximum), "NaN NaN NaN NaN NaN inf inf");
}

/// The mask is what decides, not where in its row it lies.
#[test]
fn a_single_voxel_grows_to_its_window() {
    let extent = Extent { shape: [9, 12, 40], planar: false };
    let mut random = Random::new(8);
    for size in [[3, 5, 7], [1, 1, 31], [17, 3, 1]] {
        let seed = extent.at(random.below(extent.region().voxels()) as u64);
        let mut input = Volume::<u32>::zeros(extent.region());
        input.data[extent.linear(seed) as usize] = u32::MAX;
        let filter = Extreme { end: End::Maximum, size, boundary: Boundary::Mirror };
        let AnyVolume::U32(output) = filter.apply(input.into(), extent.region(), extent) else {
            panic!("u32 stays u32")
        };
        for (i, v) in output.data.into_iter().enumerate() {
            let at = extent.at(i as u64);
            assert_eq!(v == u32::MAX, (0..3).all(|a| at[a].abs_diff(seed[a]) <= size[a] / 2), "{at:?} {seed:?}");
        }
    }
}
