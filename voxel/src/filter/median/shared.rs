//! Medians by selection networks, in which windows that overlap share what they can.
//!
//! The voxels of a window in one row, its depth by its width, are a **slab**. It is sorted once, by merging sorted
//! columns, for all windows along y that it is part of. Two windows next to each other have all slabs but their first and
//! last in common: these are merged once for both, two by two, and every pair serves the windows after it too. Of what is
//! in common only the ranks near the middle are kept, and each median is picked between them and the slab that is left.
//! The idea is Adams's ("Fast median filters using separable sorting networks", ACM Transactions on Graphics 40, 2021).
//!
//! Keys of neighbouring x lie side by side in lanes, so that no step branches. A row of lists is cut into chunks of as
//! many voxels as there are lanes; a chunk's list, least first, is one piece of memory.

use super::super::Boundary;
use super::super::keyed::{Key, Keyed};
use super::network::{Network, exchanged};
use super::straight::{self, Straight};
use super::{Median, load_keys};
use crate::simd::vectorised;
use crate::{Dtype, Extent, Region, Volume, with_dtype};

type Lanes<T> = <<T as Keyed>::Key as Key>::Lanes;

/// Voxels that go side by side.
pub(super) fn lanes(dtype: Dtype) -> usize {
    with_dtype!(dtype, T => <T as Keyed>::Key::LANES)
}

/// Pairs of slabs that two windows have in common at most: where windows are a column of as many voxels as a network takes.
const PAIRS_MAX: usize = super::NETWORK_MAX / 2;

/// How long the buffers are.
pub(super) struct Sizes {
    /// Keys from one line to the next: an output row in whole chunks, the halo on both sides, in whole chunks again.
    line: usize,
    /// Chunks in an output row.
    chunks: usize,
    /// Keys of a slab.
    slab: usize,
    /// Slabs kept at a time: those of two windows.
    slabs: usize,
    /// Pairs of slabs that two windows have in common.
    pairs: usize,
    /// Lines under a slab.
    depth: usize,
}

impl Sizes {
    /// For windows of this size, lanes of `lanes` keys and an output row of `width` voxels.
    pub(super) fn new(size: [usize; 3], lanes: usize, width: usize) -> Self {
        let chunks = width.div_ceil(lanes);
        Self {
            line: (chunks * lanes + size[2] - 1).next_multiple_of(lanes),
            chunks,
            slab: size[0] * size[2],
            slabs: size[1] + 1,
            pairs: size[1] / 2,
            depth: size[0],
        }
    }

    /// Keys in all buffers, in lanes of `lanes`.
    pub(super) fn keys(&self, lanes: usize) -> usize {
        self.depth * self.line
            + (self.slabs_len() + self.pairs_len() + self.wires_len() + self.slab + 1 + 2 * self.chunks) * lanes
    }

    fn slabs_len(&self) -> usize {
        // Where a slab is all of the window, only its median is kept.
        if self.pairs == 0 { self.chunks } else { self.slabs * self.chunks * self.slab }
    }

    fn pairs_len(&self) -> usize {
        // A pair that no other windows share goes straight on.
        if self.pairs < 2 { 0 } else { self.pairs * self.chunks * 2 * self.slab }
    }

    fn wires_len(&self) -> usize {
        self.slab * (2 * self.pairs).max(1)
    }
}

/// The median of the window around each voxel of `output`.
pub(super) fn medians<T: Keyed>(median: &Median, input: &Volume<T>, output: &mut Volume<T>, extent: Extent) {
    let [out_depth, out_height, out_width] = output.region.shape();
    let sizes = Sizes::new(median.size, T::Key::LANES, out_width);
    let mut rows = Rows::new(median, &sizes, input, output.region, extent);
    let [_, height, _] = median.size;
    let slab = sizes.chunks * sizes.slab;
    let mut slabs = vec![T::Key::ZEROS; sizes.slabs_len()];
    let mut pairs = vec![T::Key::ZEROS; sizes.pairs_len()];
    let mut wires = vec![T::Key::ZEROS; sizes.wires_len()];
    let mut spare = vec![T::Key::ZEROS; sizes.slab + 1];
    let mut picked = vec![T::Key::ZEROS; 2 * sizes.chunks];
    if sizes.pairs == 0 {
        let select = Network::median_of_sorted(median.size[2], sizes.depth);
        for (i, out) in output.data.chunks_exact_mut(out_width).enumerate() {
            rows.load(i / out_height, i % out_height, &mut wires, &mut spare);
            make_slabs::<T::Key>(&select, &rows.lines, sizes.line, median.size[2], &mut slabs, &mut wires);
            decode::<T>(&slabs, out);
        }
        return;
    }
    let make = Network::merging(median.size[2], sizes.depth, 0..=sizes.slab - 1);
    let join = Network::merging(2, sizes.slab, 0..=2 * sizes.slab - 1);
    let middle = (height * sizes.slab) / 2;
    let ranks = middle - sizes.slab..=middle;
    let common = if sizes.pairs == 1 {
        Network::merging(2, sizes.slab, ranks)
    } else {
        Network::merging(sizes.pairs, 2 * sizes.slab, ranks)
    };
    for (z, plane) in output.data.chunks_exact_mut(out_height * out_width).enumerate().take(out_depth) {
        let (mut slabs_made, mut pairs_made) = (0, 0);
        for (y, out) in (0..out_height).step_by(2).zip(plane.chunks_mut(2 * out_width)) {
            // The window of row y has the slabs from y on, that of the next row those from y + 1 on.
            let last = y + height - 1 + (out.len() / out_width - 1);
            while slabs_made <= last {
                rows.load(z, slabs_made, &mut wires, &mut spare);
                let to = &mut slabs[slabs_made % sizes.slabs * slab..][..slab];
                make_slabs::<T::Key>(&make, &rows.lines, sizes.line, median.size[2], to, &mut wires);
                slabs_made += 1;
            }
            let slab_at = |i: usize| &slabs[i % sizes.slabs * slab..][..slab];
            let (two, mut more);
            let in_common: &[&[_]] = if sizes.pairs == 1 {
                two = [slab_at(y + 1), slab_at(y + 2)];
                &two
            } else {
                while pairs_made < y / 2 + sizes.pairs {
                    let to = &mut pairs[pairs_made % sizes.pairs * 2 * slab..][..2 * slab];
                    let [a, b] = [1, 2].map(|i| slab_at(2 * pairs_made + i));
                    make_pairs::<T::Key>(&join, a, b, to, &mut wires);
                    pairs_made += 1;
                }
                more = [&pairs[..0]; PAIRS_MAX];
                more.iter_mut().zip(pairs.chunks_exact(2 * slab)).for_each(|(to, pair)| *to = pair);
                &more[..sizes.pairs]
            };
            let (first, second) = out.split_at_mut(out_width);
            let ends = [slab_at(y), slab_at(if second.is_empty() { y } else { y + height })];
            pick_medians::<T::Key>(&common, in_common, ends, &mut picked, &mut wires, &mut spare);
            decode::<T>(&picked, first);
            decode::<T>(&picked[sizes.chunks..], second);
        }
    }
}

/// The sorted columns along z of one row at a time.
struct Rows<'a, T: Keyed> {
    boundary: Boundary,
    input: &'a Volume<T>,
    extent: Extent,
    /// The first index of a window along each axis.
    first: [isize; 3],
    /// What is loaded of each line, from its start.
    loaded: usize,
    constant: T,
    sort: Network,
    /// One line for each z of the window, one after another; after sorting, one for each rank.
    lines: Vec<T::Key>,
    line: usize,
}

impl<'a, T: Keyed> Rows<'a, T> {
    fn new(median: &Median, sizes: &Sizes, input: &'a Volume<T>, out: Region, extent: Extent) -> Self {
        let constant = if let Boundary::Constant(value) = median.boundary { T::from_f64(value) } else { T::default() };
        Self {
            boundary: median.boundary,
            input,
            extent,
            first: std::array::from_fn(|a| out.start[a] as isize - (median.size[a] / 2) as isize),
            loaded: out.shape()[2] + median.size[2] - 1,
            constant,
            sort: Network::sorting(sizes.depth),
            lines: vec![T::Key::default(); sizes.depth * sizes.line],
            line: sizes.line,
        }
    }

    /// Makes the lines those of row `y` under the windows of plane `z`, both counted from the first that is needed.
    fn load(&mut self, z: usize, y: usize, wires: &mut [Lanes<T>], spare: &mut [Lanes<T>]) {
        let from_y = self.boundary.index(self.first[1] + y as isize, self.extent.shape[1]);
        for (z, line) in (self.first[0] + z as isize..).zip(self.lines.chunks_exact_mut(self.line)) {
            let line = &mut line[..self.loaded];
            match (self.boundary.index(z, self.extent.shape[0]), from_y) {
                (Some(z), Some(y)) => {
                    let row = self.input.row(z, y);
                    let (start, n) = (self.input.region.start[2], self.extent.shape[2]);
                    load_keys(row, start, n, self.first[2], line, self.boundary, self.constant);
                }
                _ => line.fill(self.constant.to_key()),
            }
        }
        if self.lines.len() > self.line {
            sort_columns::<T::Key>(&self.sort, self.line, &mut self.lines, wires, spare);
        }
    }
}

vectorised! {
    /// Sorts the keys of each x over the lines.
    fn sort_columns<K: Key>(sort: &Network, line: usize, lines: &mut [K], from: &mut [K::Lanes], to: &mut [K::Lanes]) {
        for x in (0..line).step_by(K::LANES) {
            for (line, wire) in lines.chunks_exact(line).zip(&mut *from) {
                wire.as_mut().copy_from_slice(&line[x..x + K::LANES]);
            }
            let sorted = match sort.merges() {
                [3, 1, 0, 2] => through::<K, straight::Sort3, 3, 3>(from, to),
                [5, 1, 0, 4] => through::<K, straight::Sort5, 5, 5>(from, to),
                _ => interpreted::<K>(sort, from, to),
            };
            for (line, keys) in lines.chunks_exact_mut(line).zip(sorted) {
                line[x..x + K::LANES].copy_from_slice(keys.as_ref());
            }
        }
    }

    /// Merges sorted columns that lie next to each other along x, for every chunk.
    fn make_slabs<K: Key>(
        merge: &Network, columns: &[K], line: usize, width: usize, to: &mut [K::Lanes], wires: &mut [K::Lanes],
    ) {
        let depth = columns.len() / line;
        let column = |chunk: usize, wire: usize| -> &[K] {
            &columns[wire % depth * line + chunk * K::LANES + wire / depth..][..K::LANES]
        };
        for (chunk, to) in to.chunks_exact_mut(merge.outputs().len()).enumerate() {
            for wire in 0..depth * width {
                wires[wire].as_mut().copy_from_slice(column(chunk, wire));
            }
            match merge.merges() {
                [3, 1, 0, 2] => through::<K, straight::Sort3, 3, 3>(wires, to),
                [5, 1, 0, 4] => through::<K, straight::Sort5, 5, 5>(wires, to),
                [3, 3, 0, 8] => through::<K, straight::Merge3Of3, 9, 9>(wires, to),
                [5, 5, 0, 24] => through::<K, straight::Merge5Of5, 25, 25>(wires, to),
                _ => interpreted::<K>(merge, wires, to),
            };
        }
    }

    /// Merges two slabs, for every chunk.
    fn make_pairs<K: Key>(join: &Network, a: &[K::Lanes], b: &[K::Lanes], to: &mut [K::Lanes], wires: &mut [K::Lanes]) {
        let len = join.outputs().len() / 2;
        for ((a, b), to) in a.chunks_exact(len).zip(b.chunks_exact(len)).zip(to.chunks_exact_mut(2 * len)) {
            wires[..len].copy_from_slice(a);
            wires[len..2 * len].copy_from_slice(b);
            match join.merges() {
                [2, 5, 0, 9] => through::<K, straight::Merge2Of5, 10, 10>(wires, to),
                [2, 25, 0, 49] => through::<K, straight::Merge2Of25, 50, 50>(wires, to),
                _ => interpreted::<K>(join, wires, to),
            };
        }
    }

    /// The medians of two rows of windows that have `lists` in common and one slab each besides: a row's chunks, then the
    /// other's.
    fn pick_medians<K: Key>(
        common: &Network, lists: &[&[K::Lanes]], ends: [&[K::Lanes]; 2], medians: &mut [K::Lanes], wires: &mut [K::Lanes],
        middle: &mut [K::Lanes],
    ) {
        let chunks = medians.len() / 2;
        for chunk in 0..chunks {
            let lists = lists.iter().map(|list| {
                let len = list.len() / chunks;
                &list[chunk * len..][..len]
            });
            let middle = if common.merges() == [2, 50, 37, 62] {
                middle_2_of_50::<K>(lists, wires, middle)
            } else {
                let mut free = &mut *wires;
                for list in lists {
                    let (to, rest) = free.split_at_mut(list.len());
                    to.copy_from_slice(list);
                    free = rest;
                }
                match common.merges() {
                    [2, 3, 1, 4] => through::<K, straight::Middle2Of3, 6, 4>(wires, middle),
                    [2, 9, 4, 13] => through::<K, straight::Middle2Of9, 18, 10>(wires, middle),
                    [2, 10, 7, 12] => through::<K, straight::Middle2Of10, 20, 6>(wires, middle),
                    _ => interpreted::<K>(common, wires, middle),
                }
            };
            for (slabs, medians) in ends.iter().zip(medians.chunks_exact_mut(chunks)) {
                let len = slabs.len() / chunks;
                medians[chunk] = pick::<K>(middle, &slabs[chunk * len..][..len]);
            }
        }
    }

    fn decode<T: Keyed>(medians: &[Lanes<T>], out: &mut [T]) {
        for (out, keys) in out.chunks_mut(T::Key::LANES).zip(medians) {
            for (out, key) in out.iter_mut().zip(keys.as_ref()) {
                *out = T::of_key(*key);
            }
        }
    }
}

/// Takes keys through a network as it is described.
#[inline(always)]
fn interpreted<'a, K: Key>(network: &Network, wires: &mut [K::Lanes], to: &'a mut [K::Lanes]) -> &'a [K::Lanes] {
    network.run::<K>(wires);
    for (to, wire) in to.iter_mut().zip(network.outputs()) {
        *to = wires[wire];
    }
    &to[..network.outputs().len()]
}

/// Takes keys through a network that is straight code.
///
/// Written so that LLVM makes vectors of the lanes, and keeps in registers what is between the exchanges: a loop over
/// lanes around the whole network, and arrays of known length.
#[inline(always)]
fn through<'a, K: Key, N: Straight<K, WIRES, OUTPUTS>, const WIRES: usize, const OUTPUTS: usize>(
    wires: &[K::Lanes],
    to: &'a mut [K::Lanes],
) -> &'a [K::Lanes] {
    let (Some(wires), Some(to)) = (wires.first_chunk::<WIRES>(), to.first_chunk_mut::<OUTPUTS>()) else {
        unreachable!("buffers hold what goes through them");
    };
    for i in 0..K::LANES {
        let mut keys = [K::default(); WIRES];
        for wire in 0..WIRES {
            keys[wire] = wires[wire].as_ref()[i];
        }
        let keys = N::run(keys);
        for wire in 0..OUTPUTS {
            to[wire].as_mut()[i] = keys[wire];
        }
    }
    to
}

/// The 26 middle ranks of two lists of 50 by the last step of Batcher's merge: LLVM gives up on all of it at once. Keys of
/// odd place are merged with each other, then those of even place; of both 13 are left, which are exchanged.
#[inline(always)]
fn middle_2_of_50<'a, 'b, K: Key + 'b>(
    lists: impl Iterator<Item = &'b [K::Lanes]>,
    wires: &'a mut [K::Lanes],
    ranks: &mut [K::Lanes],
) -> &'a [K::Lanes] {
    let (odd, even) = wires.split_at_mut(50);
    for (list, (odd, even)) in lists.zip(odd.chunks_exact_mut(25).zip(even.chunks_exact_mut(25))) {
        for ((pair, odd), even) in list.chunks_exact(2).zip(odd).zip(even) {
            (*odd, *even) = (pair[0], pair[1]);
        }
    }
    let (odd_ranks, even_ranks) = ranks.split_at_mut(13);
    through::<K, straight::Ranks19To31, 50, 13>(odd, odd_ranks);
    through::<K, straight::Ranks18To30, 50, 13>(even, even_ranks);
    for (to, (odd, even)) in odd.chunks_exact_mut(2).zip(odd_ranks.iter().zip(even_ranks.iter())) {
        (to[0], to[1]) = exchanged::<K>(*odd, *even);
    }
    &odd[..26]
}

/// The median, lane by lane, of a slab's keys and of others, both least first. The others are those that may be it: one more than the
/// slab has, the first of them the median if all of the slab lie below it, the last if none does.
///
/// If i of the slab's keys lie below the median, it is at least the greatest of these i and of the others that then lie
/// below; the least of these bounds, over all i, is reached.
#[inline(always)]
fn pick<K: Key>(others: &[K::Lanes], slab: &[K::Lanes]) -> K::Lanes {
    let last = others[slab.len()];
    others.iter().zip(slab.iter().rev()).fold(last, |median, (other, key)| {
        let (_, bound) = exchanged::<K>(*other, *key);
        exchanged::<K>(median, bound).0
    })
}
