use super::super::testing::{Random, random_volume, sub_boxes};
use super::*;
use crate::simd::tests::on_each_level;
use crate::{AnyElement, Element};

const MODES: [Boundary; 4] = [Boundary::Reflect, Boundary::Nearest, Boundary::Mirror, Boundary::Constant(2.5)];

/// Sorts every window.
fn twin<T: AnyElement>(median: &Median, input: &Volume<T>) -> Vec<u64> {
    let shape = input.region.shape();
    let extent = Extent { shape, planar: false };
    let key = |at: [isize; 3]| {
        let index: [Option<usize>; 3] = std::array::from_fn(|a| median.boundary.index(at[a], shape[a]));
        match index {
            [Some(z), Some(y), Some(x)] => input.data[extent.linear([z, y, x]) as usize].key(),
            _ => T::from_f64(2.5).key(),
        }
    };
    (0..input.data.len())
        .map(|i| {
            let at = extent.at(i as u64);
            let first: [isize; 3] = std::array::from_fn(|a| at[a] as isize - (median.size[a] / 2) as isize);
            let mut window = Vec::new();
            for z in 0..median.size[0] as isize {
                for y in 0..median.size[1] as isize {
                    window
                        .extend((0..median.size[2] as isize).map(|x| key([first[0] + z, first[1] + y, first[2] + x])));
                }
            }
            window.sort_unstable();
            window[window.len() / 2]
        })
        .collect()
}

fn keys(volume: &AnyVolume) -> Vec<u64> {
    with_volume!(volume, v => v.data.iter().map(|v| v.key()).collect())
}

#[test]
fn every_way_agrees_with_sorting_every_window() {
    let shapes = [[4, 5, 37], [1, 6, 40], [1, 1, 1], [3, 1, 9], [5, 4, 1], [2, 3, 130]];
    let sizes = [
        [1, 1, 1],
        [3, 3, 3],
        [1, 3, 5],
        [1, 1, 7],
        [5, 1, 1],
        [3, 5, 3],
        [1, 9, 3],
        [5, 5, 5],
        [7, 3, 7],
        [1, 3, 3],
        [1, 5, 5],
        [3, 1, 3],
        [3, 7, 1],
    ];
    for shape in shapes {
        for dtype in Dtype::ALL {
            for (i, size) in sizes.into_iter().enumerate() {
                let median = Median { size, boundary: MODES[i % 4] };
                let input = random_volume(dtype, Region::whole(shape), i as u64);
                let output = median.apply(input.clone(), input.region(), Extent { shape, planar: false });
                assert_eq!(output.dtype(), dtype);
                assert_eq!(keys(&output), with_volume!(&input, v => twin(&median, v)), "{dtype} {median:?} {shape:?}");
            }
        }
    }
}

#[test]
fn few_values_and_constants_are_no_trouble() {
    let shape = [4, 6, 34];
    let extent = Extent { shape, planar: false };
    let mut random = Random::new(1);
    for boundary in MODES {
        for size in [[3, 3, 3], [5, 5, 5], [1, 3, 43]] {
            let median = Median { size, boundary };
            for values in [1, 2, 3] {
                let data: Vec<u8> = (0..extent.region().voxels()).map(|_| 255 - random.below(values) as u8).collect();
                let input = Volume::new(extent.region(), data);
                let output = median.apply(input.clone().into(), extent.region(), extent);
                assert_eq!(keys(&output), twin(&median, &input), "{median:?} {values}");
            }
        }
    }
}

#[test]
fn a_part_equals_the_same_part_of_the_whole() {
    for shape in [[6, 7, 40], [1, 20, 35]] {
        for (dtype, size) in [(Dtype::F32, [3, 3, 3]), (Dtype::U8, [5, 5, 7]), (Dtype::I64, [7, 5, 7])] {
            for boundary in MODES {
                let extent = Extent { shape, planar: shape[0] == 1 };
                let median = Median { size, boundary };
                let input = random_volume(dtype, extent.region(), 5);
                let whole = median.apply(input.clone(), extent.region(), extent);
                for part in sub_boxes(shape, 6) {
                    let read = input.cropped(part.grown(median.halo(), shape));
                    assert_eq!(median.apply(read, part, extent), whole.cropped(part));
                    assert_eq!(median.apply(input.clone(), part, extent), whole.cropped(part));
                }
            }
        }
    }
}

#[test]
fn levels_give_equal_values() {
    let extent = Extent { shape: [3, 5, 70], planar: false };
    for size in [[3; 3], [5; 3], [1, 5, 5], [3, 7, 3]] {
        let median = Median { size, boundary: Boundary::Reflect };
        for dtype in Dtype::ALL {
            let input = random_volume(dtype, extent.region(), 2);
            let here = median.apply(input.clone(), extent.region(), extent);
            assert_eq!(keys(&here), on_each_level(|| keys(&median.apply(input.clone(), extent.region(), extent))));
        }
    }
}

#[test]
fn nan_sorts_last() {
    let extent = Extent { shape: [1, 1, 5], planar: true };
    let median = Median { size: [1, 1, 3], boundary: Boundary::Nearest };
    let input = Volume::new(extent.region(), vec![1.0f32, f32::NAN, -2.0, f32::NAN, f32::INFINITY]);
    let AnyVolume::F32(output) = median.apply(input.into(), extent.region(), extent) else { panic!("f32 stays f32") };
    assert_eq!(output.data[..2], [1.0, 1.0]);
    assert!(output.data[2].is_nan());
    assert_eq!(output.data[3..], [f32::INFINITY; 2]);
    let wire = serde_json::to_string(&median).unwrap_or_default();
    assert_eq!(serde_json::from_str::<Median>(&wire).ok(), Some(median));
}
