//! Ops that run together, a few planes at a time, so that the images between them are never whole.
//!
//! An image that nobody looks at need not exist. Ops that look at one voxel only, and a Gaussian among them, are carried
//! through slab by slab: what they hand each other lies in the caches, and a block of bytes that is smoothed and cut again
//! never lies in memory as floats, four times as large. What is computed is the same, voxel by voxel.

use std::ops::Range;

use voxel::filter::{self, Gaussian, Rescale};
use voxel::{AnyVolume, Dtype, Extent, Region};

use super::{Op, dtypes};

impl Op {
    /// Whether a voxel of the result depends on that voxel alone.
    fn is_pointwise(&self) -> bool {
        matches!(self, Op::Rescale(_) | Op::Clip(_) | Op::Cast { .. } | Op::Threshold(_))
    }
}

/// Cuts a chain into ops that run together, as ranges of their numbers. `is_seen` says of an image, by the number of ops that
/// lead to it, whether anybody looks at it.
pub(crate) fn together(ops: &[Op], is_seen: impl Fn(usize) -> bool) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (i, op) in ops.iter().enumerate() {
        let joins = |run: &&mut Range<usize>| {
            let before = &ops[(*run).clone()];
            let smooths = |op: &Op| matches!(op, Op::Gaussian(_));
            let goes_with = op.is_pointwise() || smooths(op) && !before.iter().any(smooths);
            goes_with && !is_seen(i) && before.iter().all(|op| op.is_pointwise() || smooths(op))
        };
        match runs.last_mut().filter(joins) {
            Some(run) => run.end = i + 1,
            None => runs.push(i..i + 1),
        }
    }
    runs
}

/// What runs before the Gaussian, the Gaussian, and what runs after it; all before it where there is none.
fn parts(ops: &[Op]) -> (&[Op], Option<&Gaussian>, &[Op]) {
    let gaussian = ops.iter().enumerate().find_map(|(i, op)| match op {
        Op::Gaussian(gaussian) => Some((i, gaussian)),
        _ => None,
    });
    match gaussian {
        Some((i, gaussian)) => (&ops[..i], Some(gaussian), &ops[i + 1..]),
        None => (ops, None, &[]),
    }
}

/// What the Gaussian itself rescales its voxels by when it reads them: where its values are only compared, which it does
/// quickly, less is read and held so. (Exact sums would divide again and again.)
fn read_rescaled(ops: &[Op], dtype: Dtype) -> Option<Rescale> {
    match parts(ops) {
        ([Op::Rescale(by)], Some(_), [Op::Threshold(_), ..]) if Gaussian::rescales(dtype) => Some(*by),
        _ => None,
    }
}

/// Runs one or several [`together`], slab by slab where that takes less memory. `regions` are those of `input` and of what
/// each op gives; `each` runs the op with this place among them by itself, and `chosen` is its threshold where that was
/// chosen.
pub(crate) fn apply(
    ops: &[Op],
    input: AnyVolume,
    regions: &[Region],
    extent: Extent,
    each: &dyn Fn(usize, AnyVolume, Region) -> AnyVolume,
    chosen: &dyn Fn(usize) -> Option<f64>,
) -> AnyVolume {
    if !saves_memory(ops, input.dtype(), regions, extent) {
        return (0..ops.len()).fold(input, |image, i| each(i, image, regions[i + 1]));
    }
    through_slabs(ops, input, regions, extent, each, chosen)
}

fn through_slabs(
    ops: &[Op],
    input: AnyVolume,
    regions: &[Region],
    extent: Extent,
    each: &dyn Fn(usize, AnyVolume, Region) -> AnyVolume,
    chosen: &dyn Fn(usize) -> Option<f64>,
) -> AnyVolume {
    let out = regions[ops.len()];
    let (before, gaussian, after) = parts(ops);
    let types = dtypes(ops, input.dtype());
    let mut result = AnyVolume::without_planes(types[ops.len()], out);
    let through = |first: usize, count: usize, slab: AnyVolume| {
        let part = slab.region();
        (first..first + count).fold(slab, |slab, i| each(i, slab, part))
    };
    let Some(gaussian) = gaussian else {
        for part in filter::slabs(out) {
            result.add_planes(&through(0, before.len(), input.cropped(part)));
        }
        return result;
    };
    let next = before.len() + 1;
    let cut = match after.first() {
        Some(Op::Threshold(cut)) => Some(cut.resolve(chosen(next)).cut),
        _ => None,
    };
    let mut take = |slab| result.add_planes(&through(next, after.len(), slab));
    if before.is_empty() {
        gaussian.stream(filter::Input::Whole(input), out, extent, cut, &mut take);
    } else if let Some(by) = read_rescaled(ops, input.dtype()) {
        gaussian.stream(filter::Input::Rescaled(input, by), out, extent, cut, &mut take);
    } else {
        let needed = regions[before.len()];
        let mut made = |planes: Range<usize>| {
            let (mut start, mut end) = (needed.start, needed.end);
            (start[0], end[0]) = (planes.start, planes.end);
            through(0, before.len(), input.cropped(Region { start, end }))
        };
        let smoothed = filter::Input::ToCome(types[before.len()], &mut made);
        gaussian.stream(smoothed, out, extent, cut, &mut take);
    }
    result
}

/// Bytes of voxels alive at once while [`apply`] runs, input and output included.
pub(crate) fn peak_bytes(ops: &[Op], dtype: Dtype, regions: &[Region], extent: Extent) -> usize {
    match saves_memory(ops, dtype, regions, extent) {
        true => by_slabs(ops, dtype, regions, extent),
        false => one_by_one(ops, dtype, regions, extent),
    }
}

/// Whether slabs take less than whole images do, of which floats are changed in place.
fn saves_memory(ops: &[Op], dtype: Dtype, regions: &[Region], extent: Extent) -> bool {
    ops.len() > 1 && by_slabs(ops, dtype, regions, extent) < one_by_one(ops, dtype, regions, extent)
}

/// What whole images take, one op after the other.
fn one_by_one(ops: &[Op], dtype: Dtype, regions: &[Region], extent: Extent) -> usize {
    let types = dtypes(ops, dtype);
    let peak = |i: usize| ops[i].peak_bytes(types[i], regions[i], regions[i + 1], extent);
    (0..ops.len()).map(peak).max().unwrap_or(0)
}

/// What slabs take, with the input and the result, which are whole.
fn by_slabs(ops: &[Op], dtype: Dtype, regions: &[Region], extent: Extent) -> usize {
    let out = regions[ops.len()];
    let (before, gaussian, _) = parts(ops);
    let types = dtypes(ops, dtype);
    // An op has its slab and gives another, and what it was given was given by the one before.
    let slab = |i: usize| {
        let part = filter::slabs(regions[i + 1]).next().unwrap_or(out);
        ops[i].peak_bytes(types[i], part, part, extent) + part.voxels() * types[i].size()
    };
    let slabs = (0..ops.len()).filter(|i| ops[*i].is_pointwise()).map(slab).max().unwrap_or(0);
    let smoothing = gaussian.map_or(0, |gaussian| {
        let (input, out) = (regions[before.len()], regions[before.len() + 1]);
        let is_whole = before.is_empty() || read_rescaled(ops, dtype).is_some();
        gaussian.stream_peak_bytes(types[before.len()], is_whole, input, out)
    });
    regions[0].voxels() * dtype.size() + out.voxels() * types[ops.len()].size() + smoothing + slabs
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use voxel::Volume;

    fn ops(text: &str, extent: Extent) -> Vec<Op> {
        let steps = crate::job::steps_from_line(text).unwrap();
        steps.iter().map(|step| Op::compile(&step.step, extent).unwrap()).collect()
    }

    #[test]
    fn what_nobody_looks_at_is_passed_over() {
        let extent = Extent { shape: [9; 3], planar: false };
        let runs = |text: &str, seen: &[usize]| together(&ops(text, extent), |image| seen.contains(&image));
        let text = "rescale divide=255 | gaussian sigma=1 | threshold above=0.5 | erode ball=1 | threshold above=0";
        assert_eq!(runs(text, &[]), [0..3, 3..4, 4..5]);
        assert_eq!(runs(text, &[1]), [0..1, 1..3, 3..4, 4..5]);
        assert_eq!(runs(text, &[2]), [0..2, 2..3, 3..4, 4..5]);
        assert_eq!(
            runs("gaussian sigma=1 | clip low=0 high=9 | gaussian sigma=1 | cast dtype=uint8", &[]),
            [0..2, 2..4]
        );
        assert_eq!(runs("median size=3 | cast dtype=uint8 | clip low=1 high=3", &[]), [0..1, 1..3]);
        assert_eq!(runs("clip low=1 high=3", &[]).len(), 1);
    }

    /// A number for each voxel, as wild as they come.
    fn wild(dtype: Dtype, region: Region) -> AnyVolume {
        let values = (0..region.voxels() as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as f64);
        filter::cast(Volume::new(region, values.collect::<Vec<f64>>()).into(), region, dtype)
    }

    #[test]
    fn together_they_give_what_one_after_the_other_gives() {
        for shape in [[70, 9, 20], [1, 30, 17], [18, 1, 1], [33, 5, 40]] {
            let extent = Extent { shape, planar: false };
            for text in [
                "rescale divide=255 invert=true | gaussian sigma=2,1,1 | threshold above=0.5",
                "rescale divide=3 | clip low=5 high=70 | gaussian sigma=0,2,1 | cast dtype=uint16 | clip low=9 high=60",
                "gaussian sigma=1.5 | cast dtype=uint8",
                "gaussian sigma=1 | threshold above=120 invert=true",
                "clip low=90 high=100 | gaussian sigma=0.7 | threshold between=95,95.5 | cast dtype=uint8",
                "gaussian sigma=0 | cast dtype=uint8",
                "rescale add=1 | gaussian sigma=0",
                "gaussian sigma=4,0,0 truncate=6 mode=constant value=3 | clip low=0 high=100",
                "rescale divide=7 | cast dtype=int16 | threshold below=20",
                "clip low=3 high=90 | gaussian sigma=1 mode=mirror",
            ] {
                for dtype in [Dtype::U8, Dtype::I16, Dtype::I32, Dtype::F32, Dtype::F64, Dtype::Bool] {
                    let ops = ops(text, extent);
                    let inner = Region { start: shape.map(|n| n / 3), end: shape.map(|n| (n * 3).div_ceil(4)) };
                    for block in [extent.region(), inner] {
                        let mut regions = vec![block];
                        for op in ops.iter().rev() {
                            regions.push(regions[regions.len() - 1].grown(op.halo(extent), shape));
                        }
                        regions.reverse();
                        // More than is needed, as where another image of the pass needs more.
                        regions[0] = regions[0].grown([1, 0, 2], shape);
                        let each = |i: usize, image, out| ops[i].apply(image, out, extent, None);
                        let input = wild(dtype, regions[0]);
                        let expected = (0..ops.len()).fold(input.clone(), |image, i| each(i, image, regions[i + 1]));
                        let chosen = |_| None;
                        let slabs = through_slabs(&ops, input.clone(), &regions, extent, &each, &chosen);
                        assert_eq!(slabs, expected, "{text} {dtype} {shape:?}");
                        let together = apply(&ops, input, &regions, extent, &each, &chosen);
                        assert_eq!(together, expected, "{text} {dtype} {shape:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_done_in_place_takes_no_second_image() {
        let extent = Extent { shape: [512; 3], planar: false };
        let ops = ops("rescale divide=3 | clip low=1 high=3", extent);
        let regions = [extent.region(); 3];
        assert_eq!(peak_bytes(&ops, Dtype::F32, &regions, extent), extent.region().voxels() * size_of::<f32>());
        assert!(!saves_memory(&ops, Dtype::F32, &regions, extent));
    }

    #[test]
    fn a_block_of_bytes_is_never_there_as_floats() {
        let extent = Extent { shape: [2000; 3], planar: false };
        let ops = ops("rescale divide=255 | gaussian sigma=1 | threshold above=0.5", extent);
        let out = Region::new([512; 3], [256; 3]);
        let around = out.grown([4; 3], extent.shape);
        let bytes = peak_bytes(&ops, Dtype::U8, &[around, around, out, out], extent);
        let (bytes_of_both, as_floats) = (around.voxels() + out.voxels(), around.voxels() * size_of::<f32>());
        assert!((bytes_of_both..as_floats).contains(&bytes), "{bytes}");
    }
}
