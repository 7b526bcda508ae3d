//! Objects of shapes that a merge finds hard, each cut into blocks that make a tree of four levels. The answer is that of
//! one block, byte for byte, and that of flood fill over the whole array.

use voxel::Extent;

use crate::support::image::{Image, Look, Recipe, sheet, volume};
use crate::support::lab::{Cut, Lab};
use crate::support::twin;

/// Labels and measures `image` in `blocks` and in one, with every connectivity.
fn holds_in_blocks(image: &Image, block: [usize; 3]) {
    let lab = Lab::with(image);
    for connectivity in [6, 18, 26] {
        holds_with(&lab, image, &Cut::blocks(block), connectivity);
    }
}

fn holds_with(lab: &Lab, image: &Image, cut: &Cut, connectivity: u8) {
    let job = lab.job(&format!("label connectivity={connectivity}"), cut.block);
    let (whole, cut_up) = (lab.run(&job, &Cut::whole()), lab.run(&job, cut));
    assert_eq!(cut_up.difference(&whole), None, "connectivity {connectivity}");

    let values = image.values();
    let mask: Vec<bool> = values.iter().map(|v| *v != 0.0).collect();
    let labels = twin::flood_fill(image.extent, &mask, connectivity);
    assert!(cut_up.labels() == labels, "labels of connectivity {connectivity}");
    let (found, expected) = (cut_up.objects(), twin::measured(image.extent, &labels, &values));
    assert_eq!(found.len(), expected.len(), "objects of connectivity {connectivity}");
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected, "connectivity {connectivity}");
    }
}

/// 9 by 3 by 3 blocks: nine along an axis are what it takes for four levels.
const TALL: [usize; 3] = [35, 11, 12];
const BLOCK: [usize; 3] = [4, 4, 4];

#[test]
fn the_blocks_make_a_tree_of_four_levels() {
    let lab = Lab::with(&Image::mask(volume(TALL), |_| true));
    let levels = |block| lab.plan(&lab.job("label", block), &Cut::blocks(block)).tree().levels();
    assert_eq!(levels(BLOCK), 4);
    let lab = Lab::with(&Image::mask(sheet([35, 35]), |_| true));
    let levels = |block| lab.plan(&lab.job("label", block), &Cut::blocks(block)).tree().levels();
    assert_eq!(levels([1, 4, 4]), 4);
}

#[test]
fn nothing_at_all() {
    holds_in_blocks(&Image::mask(volume(TALL), |_| false), BLOCK);
}

#[test]
fn one_object_of_every_voxel() {
    holds_in_blocks(&Image::mask(volume(TALL), |_| true), BLOCK);
}

/// Every first voxel lies in the first plane, so that all keys crowd into the first range.
#[test]
fn rods_along_z() {
    holds_in_blocks(&Image::mask(volume(TALL), |[_, y, x]| y % 2 == 0 && x % 2 == 0), BLOCK);
}

#[test]
fn sheets_along_z() {
    holds_in_blocks(&Image::mask(volume(TALL), |[_, _, x]| x % 2 == 0), BLOCK);
    holds_in_blocks(&Image::mask(volume(TALL), |[_, y, _]| y % 3 == 1), BLOCK);
}

/// Rods that turn out to be one object in the very last plane only: everything stays open up to the top.
#[test]
fn a_comb() {
    let last = TALL[0] - 1;
    holds_in_blocks(&Image::mask(volume(TALL), |[z, y, x]| y % 2 == 0 && (x % 2 == 0 || z == last)), BLOCK);
}

/// With 6 neighbours every voxel is an object, with 18 all are one.
#[test]
fn a_checkerboard() {
    holds_in_blocks(&Image::mask(volume(TALL), |[z, y, x]| (z + y + x) % 2 == 0), BLOCK);
    holds_in_blocks(&Image::mask(sheet([35, 35]), |[_, y, x]| (y + x) % 2 == 0), [1, 4, 4]);
}

/// One path, a voxel wide, through every chunk: along x, back along the next row but one, layer after layer.
#[test]
fn a_serpentine() {
    let [_, rows, columns] = TALL;
    let (last_row, last_column) = (rows - 1, columns - 1);
    let turn = move |y: usize, x: usize| x == [last_column, 0][y / 2 % 2];
    let serpentine = Image::mask(volume(TALL), |[z, y, x]| match (z % 2, y % 2) {
        (0, 0) => true,
        (0, _) => turn(y, x),
        // From the end of one layer to the next, which is gone through backwards.
        _ if z / 2 % 2 == 0 => y == last_row && turn(y, x),
        _ => y == 0 && x == 0,
    });
    holds_in_blocks(&serpentine, BLOCK);
}

#[test]
fn square_spirals() {
    let spiral = spiral(35);
    holds_in_blocks(&Image::mask(sheet([35, 35]), |[_, y, x]| spiral[y][x]), [1, 4, 4]);
    // One in every other plane; and one that is seen from the side.
    holds_in_blocks(&Image::mask(volume([3, 35, 35]), |[z, y, x]| z % 2 == 0 && spiral[y][x]), [2, 4, 6]);
    holds_in_blocks(&Image::mask(volume([35, 35, 2]), |[z, y, _]| spiral[z][y]), [4, 5, 1]);
}

/// A path a voxel wide that winds inwards with a gap of one between its turns.
fn spiral(n: usize) -> Vec<Vec<bool>> {
    let mut mask = vec![vec![false; n]; n];
    let (mut at, mut step) = ([0isize, 0], [0isize, 1]);
    mask[0][0] = true;
    let free = |mask: &[Vec<bool>], at: [isize; 2]| {
        let inside = at.iter().all(|i| (0..n as isize).contains(i));
        inside && !mask[at[0] as usize][at[1] as usize]
    };
    let ahead = |at: [isize; 2], step: [isize; 2], by: isize| [at[0] + by * step[0], at[1] + by * step[1]];
    let mut turns = 0;
    while turns < 2 {
        let beyond = ahead(at, step, 2);
        let touches = beyond.iter().all(|i| (0..n as isize).contains(i)) && !free(&mask, beyond);
        if free(&mask, ahead(at, step, 1)) && !touches {
            at = ahead(at, step, 1);
            mask[at[0] as usize][at[1] as usize] = true;
            turns = 0;
        } else {
            step = [step[1], -step[0]];
            turns += 1;
        }
    }
    mask
}

/// Neighbours by corners and by edges only: pairs of blocks that share no more than that must meet, too.
#[test]
fn diagonals() {
    for (n, block) in [(9, [1, 2, 3]), (17, [2, 4, 3])] {
        holds_in_blocks(&Image::mask(volume([n; 3]), |[z, y, x]| z == y && y == x), block);
        holds_in_blocks(&Image::mask(volume([n, 2, n]), |[z, y, x]| z + x == n - 1 && y == 1), block);
    }
    // Every voxel a block.
    holds_in_blocks(&Image::mask(volume([9, 9, 2]), |[z, y, x]| z == y && x == z % 2), [1, 1, 1]);
    // All four diagonals of a cube, and those of its faces, cross block corners in every direction.
    let n = 17;
    let diagonal = |a: usize, b: usize| a == b || a + b == n - 1;
    let of_the_cube = |[z, y, x]: [usize; 3]| diagonal(z, y) && diagonal(y, x);
    let of_its_faces = |[z, y, x]: [usize; 3]| [diagonal(z, y), diagonal(y, x), diagonal(z, x)].contains(&true);
    holds_in_blocks(&Image::mask(volume([n; 3]), of_the_cube), [4, 2, 4]);
    holds_in_blocks(&Image::mask(volume([n; 3]), of_its_faces), [4, 5, 2]);
}

#[test]
fn axes_of_one_voxel() {
    let noise =
        |extent: Extent| Recipe { extent, dtype: voxel::Dtype::U8, look: Look::Dust, gaps: false, seed: 11 }.image();
    for (shape, block) in [
        ([1, 40, 40], [1, 3, 4]),
        ([40, 1, 40], [4, 1, 3]),
        ([40, 40, 1], [3, 4, 1]),
        ([1, 1, 90], [1, 1, 7]),
        ([90, 1, 1], [7, 1, 1]),
        ([1, 1, 1], [1, 1, 1]),
    ] {
        holds_in_blocks(&noise(volume(shape)), block);
    }
    holds_in_blocks(&noise(sheet([1, 90])), [1, 1, 7]);
    holds_in_blocks(&noise(sheet([40, 40])), [1, 3, 4]);
}

/// More objects than 16 bits count, more than a block gathers rows at once, and many ranges of them.
#[test]
fn more_than_65_535_objects() {
    let image = Image::mask(volume([52, 52, 50]), |[z, y, x]| (z + y + x) % 2 == 0);
    let lab = Lab::with(&image);
    let cut = Cut { range_rows: 900, merge_bytes: Some(1 << 20), segment: None, ..Cut::blocks([6, 7, 6]) };
    holds_with(&lab, &image, &cut, 6);
}

/// Two blocks with more open objects each than a page of aliases or labels holds.
#[test]
fn more_open_objects_than_a_page() {
    let image = Image::mask(volume([2, 192, 192]), |[z, y, x]| (z + y + x) % 2 == 0);
    let lab = Lab::with(&image);
    for merge_bytes in [None, Some(1 << 20)] {
        let cut = Cut { range_rows: 5000, merge_bytes, ..Cut::blocks([1, 192, 192]) };
        holds_with(&lab, &image, &cut, 6);
    }
}
