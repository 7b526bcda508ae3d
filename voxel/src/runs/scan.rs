//! Finding runs in dense voxels. Every search counts first, so that what it allocates is exactly what it needs.

use super::{Run, Runs, VOXELS_MAX};
use crate::bits::foreground_bits;
use crate::{AnyVolume, Element, Region, Volume, with_volume};

/// The number of runs of non-zero voxels in each row of `region`, summed up: [`Runs::rows`].
pub(crate) fn count_foreground<T: Element>(input: &Volume<T>, region: Region) -> Vec<u32> {
    count(input, region, |row| {
        let mut runs = 0;
        for_each_word(row, |_, word, before| runs += (word & !(word << 1 | before)).count_ones());
        runs
    })
}

/// The runs of non-zero voxels of `region`, whose `rows` are given. They have no labels yet (0).
pub(crate) fn of_foreground<T: Element>(input: &Volume<T>, region: Region, rows: &[u32]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::with_capacity(total(rows));
    for_each_row(input, region, |row| {
        let mut open = None;
        let mut turn = |x: u32| match open.take() {
            None => open = Some(x),
            Some(start) => runs.push(Run { x: start, len: x - start, label: 0 }),
        };
        let mut foreground_at_end = false;
        for_each_word(row, |base, word, before| {
            let mut turns = word ^ (word << 1 | before);
            while turns != 0 {
                turn(base + turns.trailing_zeros());
                turns &= turns - 1;
            }
            foreground_at_end = word >> 63 != 0;
        });
        // A last word that is full has no background voxel after it to end the run.
        if foreground_at_end {
            turn(row.len() as u32);
        }
    });
    runs
}

/// The objects of an image whose voxels are object ids: stretches of one non-zero value along x, which need not touch
/// to be one object.
///
/// `region` lies inside `input.region` and has at most [`VOXELS_MAX`] voxels (panics otherwise). Beside the runs come
/// the distinct ids as [`Element::key`]s, ascending: label `i` is the id `T::from_key(ids[i - 1])`.
pub fn of_values(input: &AnyVolume, region: Region) -> (Runs, Vec<u64>) {
    with_volume!(input, volume => of_values_typed(volume, region))
}

/// Bytes that [`of_values`] allocates at most, its result included: when no two neighbouring voxels are alike.
pub fn of_values_peak_bytes(region: Region) -> usize {
    let [depth, height, width] = region.shape();
    let runs = depth * height * width;
    runs * (size_of::<Run>() + size_of::<u64>()) + (depth * height + 1) * size_of::<u32>() + size_of::<Recent>()
}

fn of_values_typed<T: Element>(input: &Volume<T>, region: Region) -> (Runs, Vec<u64>) {
    let rows = count(input, region, |row| {
        let after_first = row.windows(2).filter(|pair| pair[1].is_foreground() && pair[0].key() != pair[1].key());
        after_first.count() as u32 + u32::from(row.first().is_some_and(|v| v.is_foreground()))
    });

    // One look at every id, sorted, costs 8 bytes a run at worst; a hash table of them would cost several times that.
    let mut ids = Vec::with_capacity(total(&rows));
    let mut runs = Vec::with_capacity(total(&rows));
    let mut recent = Recent::new();
    for_each_row(input, region, |row| {
        for_each_value(row, |x, len, id| {
            runs.push(Run { x, len, label: 0 });
            recent.label(id, || {
                ids.push(id);
                1
            });
        });
    });
    ids.sort_unstable();
    ids.dedup();

    recent = Recent::new();
    let mut next = runs.iter_mut();
    for_each_row(input, region, |row| {
        for_each_value(row, |_, _, id| {
            let label = recent.label(id, || 1 + ids.partition_point(|other| *other < id) as u32);
            if let Some(run) = next.next() {
                run.label = label;
            }
        });
    });
    ids.shrink_to_fit();
    let labels = ids.len() as u32;
    (Runs { region, rows, runs, labels }, ids)
}

/// The labels of ids met lately. In an image of objects the same few ids alternate row after row; remembering them
/// turns most binary searches into one comparison.
struct Recent {
    /// Id and label; label 0 marks an empty slot.
    slots: [(u64, u32); 512],
}

impl Recent {
    fn new() -> Self {
        Self { slots: [(0, 0); 512] }
    }

    /// The label of `id`, from `find` when it is not remembered.
    #[inline]
    fn label(&mut self, id: u64, find: impl FnOnce() -> u32) -> u32 {
        // Multiplicative hashing (Knuth): the top nine bits depend on all bits of the id.
        let slot = &mut self.slots[(id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 55) as usize];
        if slot.0 != id || slot.1 == 0 {
            *slot = (id, find());
        }
        slot.1
    }
}

/// Calls `run(x, len, key)` for each stretch of one non-zero value.
#[inline(always)]
fn for_each_value<T: Element>(row: &[T], mut run: impl FnMut(u32, u32, u64)) {
    let mut x = 0;
    while x < row.len() {
        let key = row[x].key();
        let len = 1 + row[x + 1..].iter().take_while(|v| v.key() == key).count();
        if row[x].is_foreground() {
            run(x as u32, len as u32, key);
        }
        x += len;
    }
}

fn count<T: Element>(input: &Volume<T>, region: Region, mut runs_in: impl FnMut(&[T]) -> u32) -> Vec<u32> {
    assert!(region.voxels() <= VOXELS_MAX, "{region:?} has more voxels than runs can count");
    let [depth, height, _] = region.shape();
    let mut rows = Vec::with_capacity(depth * height + 1);
    let mut before = 0;
    rows.push(before);
    for_each_row(input, region, |row| {
        before += runs_in(row);
        rows.push(before);
    });
    rows
}

fn total(rows: &[u32]) -> usize {
    rows.last().map_or(0, |runs| *runs as usize)
}

/// The voxels of each row of `region` in C order.
#[inline(always)]
fn for_each_row<T: Element>(input: &Volume<T>, region: Region, mut row: impl FnMut(&[T])) {
    assert!(input.region.contains(&region), "{region:?} lies in {:?}", input.region);
    let x = region.start[2] - input.region.start[2]..region.end[2] - input.region.start[2];
    for z in region.start[0]..region.end[0] {
        for y in region.start[1]..region.end[1] {
            row(&input.row(z, y)[x.clone()]);
        }
    }
}

/// Calls `look(x, word, before)` for each 64 voxels from `x` on: bit i of `word` says that voxel x + i is foreground,
/// bit 0 of `before` that voxel x - 1 is. A run of any length then costs two bits, and background costs nothing.
#[inline(always)]
fn for_each_word<T: Element>(row: &[T], mut look: impl FnMut(u32, u64, u64)) {
    let (full, tail) = row.as_chunks::<64>();
    let mut before = 0;
    let mut x = 0;
    for chunk in full {
        let word = foreground_bits(chunk);
        look(x, word, before);
        before = word >> 63;
        x += 64;
    }
    // No word for an empty tail: the caller tells by the last word whether the row ends inside a run.
    if !tail.is_empty() {
        let mut padded = [T::default(); 64];
        padded[..tail.len()].copy_from_slice(tail);
        look(x, foreground_bits(&padded), before);
    }
}
