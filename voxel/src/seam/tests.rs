#![allow(clippy::unwrap_used)]

use super::*;
use crate::label::label;
use crate::{AnyVolume, DisjointSets, Region, Volume};
use proptest::prelude::*;
use std::collections::BTreeSet;

const ALL: [Connectivity; 3] = [Connectivity::Six, Connectivity::Eighteen, Connectivity::TwentySix];

/// Every voxel of one plane against every voxel of the other.
fn slow(low: &Plane<u32>, high: &Plane<u64>, connectivity: Connectivity) -> Vec<(u32, u64)> {
    let mut pairs = BTreeSet::new();
    for (i, a) in low.data.iter().enumerate() {
        for (j, b) in high.data.iter().enumerate() {
            let row = (i / low.shape[1] + 1).abs_diff(j / high.shape[1]);
            let column = (i % low.shape[1] + 1).abs_diff(j % high.shape[1]);
            let near = row <= 1 && column <= 1 && 1 + row + column <= connectivity.axes_max();
            if *a != 0 && *b != 0 && near {
                pairs.insert((*a, *b));
            }
        }
    }
    pairs.into_iter().collect()
}

prop_compose! {
    fn planes()(shape in [1usize..6, 1usize..6])(
        low in prop::collection::vec(prop_oneof![Just(0), 0u32..3, Just(u32::MAX)], shape[0] * shape[1]),
        high in prop::collection::vec(prop_oneof![Just(0), 0u64..3, Just(u64::MAX)], (shape[0] + 2) * (shape[1] + 2)),
        shape in Just(shape),
    ) -> (Plane<u32>, Plane<u64>) {
        (Plane { shape, data: low }, Plane { shape: shape.map(|n| n + 2), data: high })
    }
}

proptest! {
    #[test]
    fn pairs_equal_those_of_the_double_loop((low, high) in planes()) {
        for connectivity in ALL {
            prop_assert_eq!(facing_pairs(&low, &high, connectivity), slow(&low, &high, connectivity));
        }
    }

    #[test]
    fn planes_come_back_from_bytes((low, high) in planes()) {
        let mut bytes = Vec::new();
        low.encode(&mut bytes);
        prop_assert_eq!(Plane::decode(low.shape, &bytes), Some(low.clone()));
        prop_assert_eq!(Plane::<u32>::decode([low.shape[0], low.shape[1] + 1], &bytes), None);
        prop_assert_eq!(Plane::<u32>::decode(low.shape, &bytes[..bytes.len() - 1]), None);
        bytes.clear();
        high.encode(&mut bytes);
        prop_assert_eq!(Plane::decode(high.shape, &bytes), Some(high));
    }

    /// The use: a volume cut across one axis, both halves labelled alone, and joined over the seam, has the components
    /// of the whole.
    #[test]
    fn halves_joined_over_the_seam_have_the_components_of_the_whole(
        axis in 0usize..3,
        shape in [2usize..5, 2usize..5, 2usize..5],
        bits in prop::collection::vec(any::<bool>(), 64),
    ) {
        let whole = Region::whole(shape);
        let mask: AnyVolume = Volume::new(whole, bits[..whole.voxels()].to_vec()).into();
        let (mut below, mut above) = (whole, whole);
        below.end[axis] = 1;
        above.start[axis] = 1;
        let in_plane: Vec<usize> = (0..3).filter(|a| *a != axis).collect();
        let plane = [shape[in_plane[0]], shape[in_plane[1]]];
        for connectivity in ALL {
            let (low_runs, high_runs) = (label(&mask, below, connectivity), label(&mask, above, connectivity));
            let (low, high) = (low_runs.paint(|l| l), high_runs.paint(|l| u64::from(low_runs.labels + l)));
            let at = |layer: usize, i: usize, j: usize| {
                let mut at = [0; 3];
                (at[axis], at[in_plane[0]], at[in_plane[1]]) = (layer, i, j);
                at
            };
            let low_plane = low.data.clone();
            let mut high_plane = vec![0; (plane[0] + 2) * (plane[1] + 2)];
            for i in 0..plane[0] {
                for j in 0..plane[1] {
                    high_plane[(i + 1) * (plane[1] + 2) + j + 1] = high.data[high.offset(at(1, i, j))];
                }
            }
            let low_plane = Plane { shape: plane, data: low_plane };
            let high_plane = Plane { shape: plane.map(|n| n + 2), data: high_plane };

            let mut sets = DisjointSets::new(low_runs.labels + high_runs.labels + 1);
            for (a, b) in facing_pairs(&low_plane, &high_plane, connectivity) {
                sets.union(a, b as u32);
            }
            // One to one: as many pairs of (joined, whole) labels as there are labels on either side.
            let expected = label(&mask, whole, connectivity).paint(|l| l);
            let mut met = BTreeSet::new();
            for z in 0..shape[0] {
                for y in 0..shape[1] {
                    for x in 0..shape[2] {
                        let at = [z, y, x];
                        let part = if at[axis] == 0 { low.data[low.offset(at)] } else { high.data[high.offset(at)] as u32 };
                        met.insert((sets.find(part), expected.data[expected.offset(at)]));
                    }
                }
            }
            let joined: BTreeSet<u32> = met.iter().map(|(joined, _)| *joined).collect();
            let labels: BTreeSet<u32> = met.iter().map(|(_, label)| *label).collect();
            prop_assert_eq!((joined.len(), labels.len()), (met.len(), met.len()));
        }
    }
}

#[test]
fn more_pairs_than_are_kept_unsorted_are_all_found_once() {
    let shape = [300, 300];
    // Each row repeats the pairs of the row before last, so that sorting on the way finds duplicates.
    let low = Plane { shape, data: (0..90_000u32).map(|i| i % 600 + 1).collect() };
    let high = Plane { shape: [302, 302], data: (0..302 * 302u64).map(|i| i % 1000).collect() };
    for connectivity in ALL {
        let mut expected = BTreeSet::new();
        for i in 0..300 {
            for j in 0..300 {
                for (di, dj) in steps(connectivity) {
                    expected.insert((low.row(i)[j], high.row(i + di)[j + dj]));
                }
            }
        }
        expected.retain(|(_, high)| *high != 0);
        assert_eq!(facing_pairs(&low, &high, connectivity), expected.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn damaged_planes_are_refused() {
    let decode = |bytes: &[u8]| Plane::<u32>::decode([2, 2], bytes);
    assert_eq!(decode(&[3, 7, 1, 0]).unwrap().data, [7, 7, 7, 0]);
    assert_eq!(decode(&[3, 7, 2, 0]), None, "more than the plane");
    assert_eq!(decode(&[3, 7]), None, "less than the plane");
    assert_eq!(decode(&[3, 7, 0, 1, 1, 0]), None, "an empty stretch");
    assert_eq!(decode(&[4, 0x80, 0x80, 0x80, 0x80, 0x10]), None, "a value beyond 32 bits");
    assert_eq!(Plane::<u32>::decode([usize::MAX, 2], &[]), None);
}
