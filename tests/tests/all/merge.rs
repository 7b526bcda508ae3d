//! The laws of the merge: how blocks are grouped, where ranges are cut, how much a group may hold, and which units go
//! together in a segment don't show.

use voxel::Dtype;

use crate::support::image::{Image, Look, Recipe, volume};
use crate::support::lab::{Cut, Lab};

/// Objects of all sizes, some of which reach through the whole volume.
fn hills() -> Image {
    Recipe { extent: volume([21, 24, 26]), dtype: Dtype::U8, look: Look::Blobs, gaps: false, seed: 5 }.image()
}

const STEPS: &str = "threshold above=95 | label connectivity=18";

#[test]
fn any_grouping_of_the_same_blocks() {
    let lab = Lab::with(&hills());
    let job = lab.job(STEPS, [3, 3, 3]);
    let whole = lab.run(&job, &Cut::whole());
    for fanout in [2, 3, 4, 9] {
        for merge_bytes in [None, Some(2_000), Some(40_000)] {
            let cut = Cut { fanout, merge_bytes, ..Cut::blocks([3, 3, 3]) };
            assert_eq!(lab.run(&job, &cut).difference(&whole), None, "{cut:?}");
        }
    }
}

#[test]
fn any_blocks() {
    let lab = Lab::with(&hills());
    let job = lab.job(STEPS, [3, 2, 2]);
    let whole = lab.run(&job, &Cut::whole());
    for block in [[3, 24, 26], [21, 2, 26], [21, 24, 2], [6, 8, 4], [12, 12, 14], [18, 22, 24]] {
        for fanout in [2, 3, 4] {
            let cut = Cut { fanout, ..Cut::blocks(block) };
            assert_eq!(lab.run(&job, &cut).difference(&whole), None, "{cut:?}");
        }
    }
}

/// Rods have all their keys in the first plane, dust has them everywhere.
#[test]
fn any_ranges() {
    let rods = Image::mask(volume([16, 40, 40]), |[_, y, x]| y % 2 == 0 && x % 2 == 0);
    let dust =
        Recipe { extent: volume([16, 24, 24]), dtype: Dtype::U8, look: Look::Dust, gaps: false, seed: 8 }.image();
    for image in [rods, dust] {
        let lab = Lab::with(&image);
        let job = lab.job("label", [8, 8, 8]);
        let whole = lab.run(&job, &Cut::whole());
        for range_rows in [1, 2, 63, 64, 65, 300, 1 << 20] {
            let cut = Cut { range_rows, ..Cut::blocks([8, 8, 8]) };
            assert_eq!(lab.run(&job, &cut).difference(&whole), None, "{cut:?}");
        }
    }
}

#[test]
fn any_segments_and_threads() {
    let lab = Lab::with(&hills());
    let job = lab.job("median size=3 | threshold method=otsu | label", [5, 6, 7]);
    let whole = lab.run(&job, &Cut::whole());
    for segment in [Some(1), Some(3), Some(1000), None] {
        for threads in [1, 3] {
            let cut = Cut { segment, threads, ..Cut::blocks([5, 6, 7]) };
            assert_eq!(lab.run(&job, &cut).difference(&whole), None, "{cut:?}");
        }
    }
}

/// Row groups are of the job. Where they end falls into ranges in every possible way.
#[test]
fn row_groups_gather_from_any_ranges() {
    let image = Image::mask(volume([12, 20, 22]), |[z, y, x]| (z + y + x) % 2 == 0);
    let lab = Lab::with(&image);
    let job = lab.job("label", [4, 5, 6]);
    for group_rows in [1000, 64, 2640, 2641] {
        let whole = lab.run(&job, &Cut { group_rows, ..Cut::whole() });
        assert_eq!(whole.row_groups(), 2640usize.div_ceil(group_rows as usize));
        for range_rows in [1, 100, 1001] {
            let cut = Cut { group_rows, range_rows, ..Cut::blocks([4, 5, 6]) };
            assert_eq!(lab.run(&job, &cut).difference(&whole), None, "{cut:?}");
        }
    }
}
