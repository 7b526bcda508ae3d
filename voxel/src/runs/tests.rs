#![allow(clippy::unwrap_used)]

use super::*;
use crate::{AnyVolume, Element, Region};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn assert_equals_voxels<T: Element>(image: &Volume<T>, found: &(Runs, Vec<u64>))
where
    AnyVolume: From<Volume<T>>,
{
    let (runs, ids) = found;
    let distinct: BTreeSet<u64> = image.data.iter().filter(|v| v.is_foreground()).map(|v| v.key()).collect();
    assert_eq!(ids, &distinct.into_iter().collect::<Vec<_>>());
    assert_eq!(runs.labels as usize, ids.len());
    assert_eq!(runs.paint(|label| T::from_key(ids[label as usize - 1])), *image, "the ids come back");
    for (_, _, row) in runs.by_row() {
        for pair in row.windows(2) {
            assert!(pair[0].end() < pair[1].x || pair[0].label != pair[1].label, "runs are as long as they can be");
        }
    }
    assert_eq!(runs.runs.capacity(), runs.runs.len());
    assert!(runs.bytes() + runs.runs.len() * 8 <= of_values_peak_bytes(image.region));
}

fn image<T: Element>(shape: [usize; 3], values: Vec<T>) -> Volume<T> {
    Volume::new(Region::new([3, 0, 8], shape), values)
}

proptest! {
    #[test]
    fn runs_of_values_hold_every_voxel(
        shape in [1usize..4, 1usize..4, 1usize..9],
        ids in prop::collection::vec(prop_oneof![Just(0i64), -2i64..3, any::<i64>()], 100),
    ) {
        let voxels = shape.iter().product();
        let signed = image(shape, ids[..voxels].to_vec());
        assert_equals_voxels(&signed, &of_values(&signed.clone().into(), signed.region));
        let unsigned = image(shape, ids[..voxels].iter().map(|id| *id as u8).collect());
        assert_equals_voxels(&unsigned, &of_values(&unsigned.clone().into(), unsigned.region));

        let part = Region { start: signed.region.start.map(|s| s + 1), end: signed.region.end };
        if !part.is_empty() {
            prop_assert_eq!(of_values(&signed.clone().into(), part), of_values(&signed.cropped(part).into(), part));
        }
    }

    #[test]
    fn more_ids_than_are_remembered_are_all_found(seed in any::<u64>()) {
        let ids = (0..4000u64).map(|i| (i ^ seed).wrapping_mul(0x2545_f491_4f6c_dd1d) % 1500).collect();
        let wide = image([2, 2, 1000], ids);
        assert_equals_voxels(&wide, &of_values(&wide.clone().into(), wide.region));
    }

    #[test]
    fn runs_come_back_from_bytes(
        shape in [1usize..4, 1usize..4, 1usize..9],
        ids in prop::collection::vec(0u16..4, 100),
    ) {
        let image = image(shape, ids[..shape.iter().product()].to_vec());
        let (runs, _) = of_values(&image.clone().into(), image.region);
        let mut bytes = Vec::new();
        runs.encode(&mut bytes);
        prop_assert_eq!(Runs::decode(image.region, &bytes), Some(runs));
        prop_assert_eq!(Runs::decode(image.region, &bytes[..bytes.len() - 1]), None);
        bytes.push(0);
        prop_assert_eq!(Runs::decode(image.region, &bytes), None);
    }

    #[test]
    fn whatever_decodes_keeps_the_promises(bytes in prop::collection::vec(prop_oneof![0u8..5, any::<u8>()], 0..40)) {
        let region = Region::whole([1, 3, 7]);
        if let Some(runs) = Runs::decode(region, &bytes) {
            let mut again = Vec::new();
            runs.encode(&mut again);
            prop_assert_eq!(&again, &bytes);
            for (_, _, row) in runs.by_row() {
                prop_assert!(row.iter().all(|run| run.len > 0 && (1..=runs.labels).contains(&run.label)));
                prop_assert!(row.windows(2).all(|pair| pair[0].end() <= pair[1].x));
                prop_assert!(row.iter().all(|run| run.end() <= 7));
            }
        }
    }
}

#[test]
fn damaged_bytes_are_refused() {
    let decode = |bytes: &[u8]| Runs::decode(Region::whole([1, 1, 5]), bytes);
    assert!(decode(&[1, 1, 2, 3, 1]).is_some());
    assert_eq!(decode(&[1, 1, 2, 4, 1]), None, "past the row");
    assert_eq!(decode(&[1, 1, 2, 0, 1]), None, "empty run");
    assert_eq!(decode(&[1, 1, 2, 3, 0]), None, "label 0");
    assert_eq!(decode(&[1, 1, 2, 3, 2]), None, "label beyond their number");
    assert_eq!(decode(&[9, 1, 2, 3, 1]), None, "more labels than runs");
    assert_eq!(decode(&[1, 6, 2, 3, 1]), None, "more runs than voxels");
    assert_eq!(decode(&[]), None);
    let huge = Region::whole([1 << 10, 1 << 11, 1 << 10]);
    assert_eq!(Runs::decode(huge, &[0, 0, 0]), None, "fewer bytes than rows");
}

#[test]
fn a_part_that_is_painted_is_that_part_of_the_whole() {
    let shape = [3, 4, 9];
    let values = (0..108u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 30) as u8 % 3).collect();
    let image = image(shape, values);
    let (runs, _) = of_values(&image.clone().into(), image.region);
    let whole = runs.paint(|label| label);
    for z in [0..3, 1..2, 2..3] {
        for y in [0..4, 1..3] {
            for (start, end) in (0..=9).flat_map(|start| (start..=9).map(move |end| (start, end))) {
                let part = Region { start: [3 + z.start, y.start, 8 + start], end: [3 + z.end, y.end, 8 + end] };
                assert_eq!(runs.paint_part(part, |label| label), whole.cropped(part));
            }
        }
    }
}

#[test]
fn painting_asks_once_a_run_and_leaves_background_zero() {
    let image = image([1, 2, 4], vec![7u8, 7, 0, 9, 0, 0, 0, 7]);
    let (runs, ids) = of_values(&image.into(), Region::new([3, 0, 8], [1, 2, 4]));
    assert_eq!(ids, [7, 9]);
    assert_eq!(runs.paint(|label| u64::from(label) << 40).data, [1, 1, 0, 2, 0, 0, 0, 1].map(|l: u64| l << 40));
}
