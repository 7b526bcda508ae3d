#![allow(clippy::unwrap_used)]

use super::*;
use crate::runs::Run;
use proptest::prelude::*;

const ALL: [Connectivity; 3] = [Connectivity::Six, Connectivity::Eighteen, Connectivity::TwentySix];

/// Floods each component from its first voxel, over all 26 offsets that differ along few enough axes.
fn flood(mask: &Volume<bool>, connectivity: Connectivity) -> Volume<u32> {
    let mut labels = Volume::<u32>::zeros(mask.region);
    let whole = mask.region;
    let mut next = 0;
    for z in whole.start[0]..whole.end[0] {
        for y in whole.start[1]..whole.end[1] {
            for x in whole.start[2]..whole.end[2] {
                let mut front = vec![[z, y, x]];
                if !mask.data[mask.offset([z, y, x])] || labels.data[labels.offset([z, y, x])] != 0 {
                    continue;
                }
                next += 1;
                while let Some(at) = front.pop() {
                    let offset = labels.offset(at);
                    if !mask.data[offset] || labels.data[offset] != 0 {
                        continue;
                    }
                    labels.data[offset] = next;
                    for step in 0..27 {
                        let by = [step / 9 - 1, step / 3 % 3 - 1, step % 3 - 1];
                        let differing = by.iter().filter(|d| **d != 0).count();
                        let to = [0, 1, 2].map(|a| at[a].wrapping_add_signed(by[a]));
                        let inside = (0..3).all(|a| (whole.start[a]..whole.end[a]).contains(&to[a]));
                        if inside && differing <= connectivity.axes_max() {
                            front.push(to);
                        }
                    }
                }
            }
        }
    }
    labels
}

fn assert_equals_flood(mask: &Volume<bool>, connectivity: Connectivity) {
    let found = label(&mask.clone().into(), mask.region, connectivity);
    let slow = flood(mask, connectivity);
    assert_eq!(found.paint(|label| label), slow, "{connectivity:?} {mask:?}");
    assert_eq!(found.labels, slow.data.iter().copied().max().unwrap_or(0));
    assert!(found.bytes() + 4 * found.runs.len() <= peak_bytes(mask.region), "{mask:?}");
    assert_eq!(found.runs.len(), found.runs.capacity(), "allocated exactly");
}

#[test]
fn every_mask_of_2x2x3_equals_flood_fill() {
    for bits in 0..1u32 << 12 {
        let mask = Volume::new(Region::whole([2, 2, 3]), (0..12).map(|i| bits >> i & 1 != 0).collect());
        for connectivity in ALL {
            assert_equals_flood(&mask, connectivity);
        }
    }
}

#[test]
fn full_and_empty_boxes_of_odd_shapes_equal_flood_fill() {
    for shape in [[1, 1, 1], [1, 1, 130], [3, 1, 64], [1, 5, 65], [7, 1, 1], [1, 9, 1], [2, 3, 128], [0, 3, 3]] {
        let region = Region::new([5, 6, 7], shape);
        for connectivity in ALL {
            for all in [false, true] {
                assert_equals_flood(&Volume::new(region, vec![all; region.voxels()]), connectivity);
            }
            // The worst case of the memory promise.
            let comb = (0..region.voxels()).map(|i| i % shape[2] % 2 == 0).collect();
            assert_equals_flood(&Volume::new(region, comb), connectivity);
        }
    }
}

prop_compose! {
    fn masks()(
        start in [0usize..9, 0usize..9, 0usize..9],
        shape in prop_oneof![[1usize..6, 1usize..6, 1usize..8], [1usize..2, 1usize..6, 60usize..140]],
        density in 0.05f64..0.95,
        seed in any::<u64>(),
    ) -> Volume<bool> {
        let region = Region::new(start, shape);
        let mut state = seed | 1;
        let data = (0..region.voxels()).map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state >> 11) as f64) < density * (1u64 << 53) as f64
        });
        Volume::new(region, data.collect())
    }
}

proptest! {
    #[test]
    fn random_masks_equal_flood_fill(mask in masks()) {
        for connectivity in ALL {
            assert_equals_flood(&mask, connectivity);
        }
    }

    #[test]
    fn a_box_inside_a_bigger_input_equals_the_box_alone(mask in masks(), cut in [0usize..3, 0usize..3, 0usize..70]) {
        let shape = mask.region.shape();
        let start: [usize; 3] = std::array::from_fn(|a| mask.region.start[a] + cut[a].min(shape[a] - 1));
        let part = Region { start, end: mask.region.end };
        for connectivity in ALL {
            let inside = label(&mask.clone().into(), part, connectivity);
            prop_assert_eq!(inside, label(&mask.cropped(part).into(), part, connectivity));
        }
    }
}

#[test]
fn every_element_type_is_foreground_where_it_is_not_zero() {
    let region = Region::whole([1, 1, 6]);
    let runs = |input: AnyVolume| label(&input, region, Connectivity::Six).runs;
    let expected = vec![Run { x: 1, len: 2, label: 1 }, Run { x: 4, len: 1, label: 2 }];
    assert_eq!(runs(Volume::new(region, vec![0i8, -1, 1, 0, 5, 0]).into()), expected);
    assert_eq!(runs(Volume::new(region, vec![0u64, 1 << 63, 1, 0, 5, 0]).into()), expected);
    assert_eq!(runs(Volume::new(region, vec![-0.0f32, f32::NAN, 1e-45, 0.0, -2.0, 0.0]).into()), expected);
}

#[test]
fn connectivity_is_written_as_the_number_of_neighbours() {
    for connectivity in ALL {
        let written = serde_json::to_string(&connectivity).unwrap();
        assert_eq!(written, u8::from(connectivity).to_string());
        assert_eq!(serde_json::from_str::<Connectivity>(&written).unwrap(), connectivity);
    }
    let refused = serde_json::from_str::<Connectivity>("8").unwrap_err().to_string();
    assert!(refused.contains("6, 18 or 26, not 8"), "{refused}");
}
