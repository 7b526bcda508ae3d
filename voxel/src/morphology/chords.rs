//! Erosion with small footprints, on bits.
//!
//! A footprint is a stack of discs, and a disc a stack of chords along x. All chords of one width come from the rows
//! once, by shifts (a chord of half-width h + d is three of half-width h, d apart); a disc is the AND of the rows under
//! it, each with the chord it has there; and each plane's discs go into the planes above and below that see them. Discs
//! that are alike, as those of +dz and -dz are, are made once.
//!
//! A dilation is the erosion of what is not foreground. Footprints of so many rows that distances are faster are left
//! to [`reach`](super::reach) and [`window`](crate::window).

use std::ops::Range;

use super::near::Near;
use crate::bits::{self, WORD};
use crate::simd::vectorised;
use crate::{Element, Region, Volume};

/// Most ANDs a word may take: beyond, other ways are faster, or about to be.
const ANDS_MAX: usize = 2_500;

/// Largest half-width of a chord: one word on either side of a row holds all that it reaches.
const HALF_MAX: usize = WORD - 1;

/// What is eroded at once: columns of words and rows that fit the second-level cache at every width of chord.
const TILE_WORDS: usize = 8;
const TILE_ROWS: usize = 128;

/// Rows of one column of words whose disc is kept in registers while it is made.
const LANES: usize = 16;

/// A footprint as chords.
#[derive(Clone, Debug)]
pub(super) struct Chords {
    /// How far it reaches along z, y, x.
    radius: [usize; 3],
    /// Half-widths that are made one from the other, from 0 on.
    halves: Vec<usize>,
    /// The distinct discs: for each distance along y, from 0 on, the index of the chord's half-width.
    discs: Vec<Vec<usize>>,
    /// Which disc there is at each distance along z, from 0 on.
    stack: Vec<usize>,
}

impl Chords {
    /// All offsets up to the radius along each axis; `None` where too many rows take part.
    pub(super) fn of_box(radius: [usize; 3]) -> Option<Self> {
        Self::new(radius, |_, _, from| from)
    }

    /// All offsets that are near enough; `None` where too many rows take part.
    pub(super) fn of(near: &Near) -> Option<Self> {
        Self::new(near.radius, |dz, dy, from| {
            // In the order in which `reach` adds, which matters to costs that round.
            let fits = |dx: &usize| near.cost(2, *dx) + near.cost(1, dy) + near.cost(0, dz) <= near.limit;
            (0..=from).rev().find(fits).unwrap_or(usize::MAX)
        })
    }

    /// `half(dz, dy, from)` is the half-width of the chord there, which is at most `from`; `usize::MAX` where there is
    /// none.
    fn new(radius: [usize; 3], half: impl Fn(usize, usize, usize) -> usize) -> Option<Self> {
        if radius[2] > HALF_MAX || 2 * (radius[0] + radius[1]) > ANDS_MAX {
            return None;
        }
        let mut discs: Vec<Vec<usize>> = Vec::new();
        let mut stack = Vec::new();
        for dz in 0..=radius[0] {
            // Chords only get shorter from the middle of a disc on.
            let mut from = radius[2];
            let mut disc = Vec::new();
            for dy in 0..=radius[1] {
                from = half(dz, dy, from);
                if from == usize::MAX {
                    break;
                }
                disc.push(from);
            }
            if disc.is_empty() {
                break;
            }
            stack.push(discs.iter().position(|other| *other == disc).unwrap_or(discs.len()));
            if stack.last() == Some(&discs.len()) {
                discs.push(disc);
            }
        }
        let ands = discs.iter().map(|disc| 2 * disc.len() - 1).sum::<usize>() + 2 * stack.len() - 1;
        if ands > ANDS_MAX {
            return None;
        }
        let mut wanted: Vec<usize> = discs.iter().flatten().copied().collect();
        wanted.sort_unstable();
        let mut halves = vec![0];
        for wanted in wanted {
            while let Some(half) = halves.last().copied().filter(|half| *half < wanted) {
                // Chords no further apart than their width leave no gap.
                halves.push(wanted.min(3 * half + 1));
            }
        }
        for half in discs.iter_mut().flatten() {
            *half = halves.partition_point(|other| *other < *half);
        }
        // What the footprint can't reach although its radius would is not looked at.
        let radius = [stack.len() - 1, discs.iter().map(Vec::len).max().unwrap_or(1) - 1, radius[2]];
        Some(Self { radius, halves, discs, stack })
    }

    /// Bytes alive at once in [`eroded`], with `read` bytes of input.
    pub(super) fn peak_bytes(&self, read: usize, out: Region) -> usize {
        let bits: usize = tiles(out).map(|tile| bits_of(tile) * size_of::<u64>()).sum();
        let work = tiles(out).map(|tile| self.work(tile) * size_of::<u64>()).max().unwrap_or(0);
        (read + bits + work).max(bits + out.voxels())
    }

    /// Words that the chords of a plane of a tile take.
    fn work(&self, tile: Region) -> usize {
        self.halves.len() * (words_of(tile) + 2) * (rows_of(tile) + 2 * self.radius[1])
    }
}

/// The voxels of `out` whose whole footprint is foreground or, with `flip`, background. Voxels outside the image are
/// what is looked for, unless `beyond` is false. `input` holds what the footprint reaches inside the image. With `flip`
/// the answer is inverted, too: that is a dilation.
pub(super) fn eroded<T: Element>(
    input: Volume<T>,
    out: Region,
    shape: [usize; 3],
    chords: &Chords,
    flip: bool,
    beyond: bool,
) -> Volume<bool> {
    let eroded: Vec<Vec<u64>> = tiles(out).map(|tile| eroded_tile(&input, tile, shape, chords, flip, beyond)).collect();
    drop(input);
    let mut output = Volume::zeros(out);
    for (tile, bits) in tiles(out).zip(eroded) {
        let (words, rows) = (words_of(tile), rows_of(tile));
        let columns = tile.start[2] - out.start[2]..tile.end[2] - out.start[2];
        let mut line = [0; TILE_WORDS];
        for z in tile.start[0]..tile.end[0] {
            let plane = &bits[(z - tile.start[0]) * words * rows..][..words * rows];
            for y in tile.start[1]..tile.end[1] {
                for (c, word) in line[..words].iter_mut().enumerate() {
                    *word = plane[c * rows + y - tile.start[1]] ^ if flip { u64::MAX } else { 0 };
                }
                bits::unpack(&line[..words], &mut output.row_mut(z, y)[columns.clone()]);
            }
        }
    }
    output
}

/// `out` cut along y and x.
fn tiles(out: Region) -> impl Iterator<Item = Region> {
    let cut = move |axis: usize, step: usize| {
        let starts = (out.start[axis]..out.end[axis]).step_by(step);
        starts.map(move |start| (start, (start + step).min(out.end[axis])))
    };
    cut(1, TILE_ROWS).flat_map(move |(y0, y1)| {
        cut(2, TILE_WORDS * WORD)
            .map(move |(x0, x1)| Region { start: [out.start[0], y0, x0], end: [out.end[0], y1, x1] })
    })
}

/// Columns of words in a tile.
fn words_of(tile: Region) -> usize {
    tile.shape()[2].div_ceil(WORD)
}

/// Rows in a tile, rounded up to whole lanes.
fn rows_of(tile: Region) -> usize {
    tile.shape()[1].next_multiple_of(LANES)
}

/// Words that the bits of a tile take.
fn bits_of(tile: Region) -> usize {
    tile.shape()[0] * words_of(tile) * rows_of(tile)
}

/// The bits of a tile, plane by plane, of each plane column of words by column.
fn eroded_tile<T: Element>(
    input: &Volume<T>,
    tile: Region,
    shape: [usize; 3],
    chords: &Chords,
    flip: bool,
    beyond: bool,
) -> Vec<u64> {
    let (words, rows) = (words_of(tile), rows_of(tile));
    let mut eroded = vec![u64::MAX; bits_of(tile)];
    let needed = tile.grown(chords.radius, shape);
    let mut work = vec![0; chords.work(tile)];
    let height = rows + 2 * chords.radius[1];
    let mut planes = Vec::new();
    for z in needed.start[0]..needed.end[0] {
        load(input, z, needed, tile, height, chords.radius[1], flip, beyond, &mut work);
        let level = (words + 2) * height;
        for (i, halves) in chords.halves.windows(2).enumerate() {
            let (before, after) = work.split_at_mut((i + 1) * level);
            widened(&before[i * level..], &mut after[..level], height, (halves[1] - halves[0]) as u32);
        }
        for (d, disc) in chords.discs.iter().enumerate() {
            // The planes of the tile that see this disc in plane z.
            let above = |dz: usize| z.checked_sub(dz).filter(|to| (tile.start[0]..tile.end[0]).contains(to));
            let below = |dz: usize| (dz > 0 && (tile.start[0]..tile.end[0]).contains(&(z + dz))).then_some(z + dz);
            let at = |to: usize| (to - tile.start[0]) * words * rows;
            let distances = || (0..chords.stack.len()).filter(|dz| chords.stack[*dz] == d);
            planes.clear();
            planes.extend(distances().flat_map(|dz| [above(dz), below(dz)]).flatten().map(at));
            if planes.is_empty() {
                continue;
            }
            for column in 0..words {
                // From the middle of the tile's first row on, in the column after that of what lies before the tile.
                let first = (column + 1) * height + chords.radius[1];
                let to = column * rows..(column + 1) * rows;
                disc_into_planes(&work, first, level, disc, &mut eroded, &planes, to);
            }
        }
    }
    if !beyond {
        // A plane outside the image holds nothing that is looked for.
        let reach = chords.radius[0];
        for (z, plane) in (tile.start[0]..tile.end[0]).zip(eroded.chunks_exact_mut((words * rows).max(1))) {
            if z < reach || z + reach >= shape[0] {
                plane.fill(0);
            }
        }
    }
    eroded
}

/// Packs the rows of a plane under a tile and around it, a column of words on either side.
fn load<T: Element>(
    input: &Volume<T>,
    z: usize,
    needed: Region,
    tile: Region,
    height: usize,
    radius: usize,
    flip: bool,
    beyond: bool,
    columns: &mut [u64],
) {
    let fill = if beyond { u64::MAX } else { 0 };
    let width = needed.shape()[2];
    let skipped = needed.start[2] - input.region.start[2];
    let (before, packed) = (tile.start[2] - needed.start[2], width.div_ceil(WORD));
    let words = words_of(tile) + 2;
    let mut line = [0; TILE_WORDS + 5];
    for row in 0..height {
        let y = (tile.start[1] + row).checked_sub(radius).filter(|y| (needed.start[1]..needed.end[1]).contains(y));
        let Some(y) = y else {
            for column in 0..words {
                columns[column * height + row] = fill;
            }
            continue;
        };
        line.fill(fill);
        bits::pack(&input.row(z, y)[skipped..][..width], &mut line[1..=packed]);
        if flip {
            line[1..=packed].iter_mut().for_each(|word| *word = !*word);
        }
        let over = packed * WORD - width;
        if over > 0 {
            let inside = u64::MAX >> over;
            line[packed] = line[packed] & inside | fill & !inside;
        }
        for column in 0..words {
            columns[column * height + row] = joined(line[column], line[column + 1], before as u32);
        }
    }
}

/// 64 bits from bit `at` (below 64) of two words.
#[inline(always)]
fn joined(low: u64, high: u64, at: u32) -> u64 {
    if at == 0 { low } else { low >> at | high << (64 - at) }
}

vectorised! {
    /// Chords that are longer by `by` (1 to 63) at either end. What lies beyond the first and the last column is of no
    /// matter: no chord that is used reaches there.
    fn widened(from: &[u64], to: &mut [u64], height: usize, by: u32) {
        let columns = to.len() / height.max(1);
        for column in 0..columns {
            let part = |column: usize| &from[column * height..][..height];
            let (own, low, high) = (part(column), part(column.saturating_sub(1)), part((column + 1).min(columns - 1)));
            for (((to, own), low), high) in to[column * height..][..height].iter_mut().zip(own).zip(low).zip(high) {
                let left = own << by | low >> (64 - by);
                let right = own >> by | high << (64 - by);
                *to = own & left & right;
            }
        }
    }

    /// The disc over each row of a column, ANDed into that column of all planes that see it.
    fn disc_into_planes(
        chords: &[u64],
        first: usize,
        level: usize,
        disc: &[usize],
        eroded: &mut [u64],
        planes: &[usize],
        column: Range<usize>,
    ) {
        for (lane, row) in column.step_by(LANES).enumerate() {
            let at = first + lane * LANES;
            let mut acc = [u64::MAX; LANES];
            for (dy, half) in disc.iter().enumerate() {
                let (up, down) = (lanes(chords, half * level + at - dy), lanes(chords, half * level + at + dy));
                for i in 0..LANES {
                    acc[i] &= up[i] & down[i];
                }
            }
            for plane in planes {
                let to = &mut eroded[plane + row..][..LANES];
                for i in 0..LANES {
                    to[i] &= acc[i];
                }
            }
        }
    }
}

#[inline(always)]
fn lanes(words: &[u64], from: usize) -> &[u64; LANES] {
    match words[from..].first_chunk() {
        Some(lanes) => lanes,
        None => unreachable!("rows are whole lanes"),
    }
}
