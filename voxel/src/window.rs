//! The least or greatest value of a box around each voxel: what the filters `minimum` and `maximum` and morphology with
//! a box have in common.
//!
//! Along x, then y, then z. Along an axis the extremes of windows of one voxel are joined to those of 2, 4, 8 and so on,
//! and two of the largest that fit, which overlap, make the window: a number of comparisons that grows with the
//! logarithm of its width. All are done on whole rows of unsigned keys, in lanes of neighbouring x.
//!
//! What lies beyond the image is one key. Where it is the key that decides nothing, the window is clipped to the image;
//! the modes `reflect`, `nearest` and `mirror` come to the same, since whatever they show beyond a face of the image
//! lies in the clipped window as well: of no voxel is the reflection farther away than the voxel is.

use std::marker::PhantomData;

use crate::filter::keyed::Key;
use crate::simd::vectorised;
use crate::{Element, Extent, Region, Volume};

/// Which of two values a window keeps, and how a voxel becomes a key and a key a voxel.
pub(crate) trait Rank {
    type From: Element;
    type Key: Key;
    type To: Copy + Default;
    /// The key that any other is preferred to.
    const NEUTRAL: Self::Key;
    fn encode(voxel: Self::From) -> Self::Key;
    fn decode(key: Self::Key) -> Self::To;
    fn pick(a: Self::Key, b: Self::Key) -> Self::Key;
}

/// The window of `2 radius + 1` voxels along z, y, x around each voxel of `out`. `input` holds `out` grown by the radius
/// and clipped to the image, or more; `beyond` is the key of every voxel outside the image.
pub(crate) fn extremes<R: Rank>(
    input: Volume<R::From>,
    out: Region,
    extent: Extent,
    radius: [usize; 3],
    beyond: R::Key,
) -> Volume<R::To> {
    let sizes = Sizes::new(out, extent, radius);
    let [depth, height, width] = out.shape();
    let plane_len = height * width;
    let mut planes = vec![R::NEUTRAL; sizes.planes * plane_len];
    let mut work = Work::<R> {
        line: vec![R::NEUTRAL; sizes.line],
        spare: vec![R::NEUTRAL; sizes.line],
        rows: vec![R::NEUTRAL; sizes.rows * width],
        rank: PhantomData,
    };
    let inside = |index: isize, axis: usize| usize::try_from(index).ok().filter(|i| *i < extent.shape[axis]);
    let first: [isize; 3] = std::array::from_fn(|a| out.start[a] as isize - sizes.radius[a] as isize);
    let flat = sizes.radius[0] == 0;
    let mut output = Volume::zeros(if flat { out } else { Region { start: out.start, end: out.start } });
    for z in 0..depth + 2 * sizes.radius[0] {
        let plane = if flat { &mut planes[..] } else { &mut planes[z * plane_len..][..plane_len] };
        match inside(first[0] + z as isize, 0) {
            None => plane.fill(beyond),
            Some(at_z) => {
                for (y, row) in (first[1]..).zip(work.rows.chunks_exact_mut(width.max(1))) {
                    let Some(at_y) = inside(y, 1) else {
                        row.fill(beyond);
                        continue;
                    };
                    let voxels = input.row(at_z, at_y);
                    load::<R>(voxels, input.region.start[2], extent.shape[2], first[2], beyond, &mut work.line);
                    let window = 2 * sizes.radius[2] + 1;
                    let span = along_line::<R>(&mut work.line, &mut work.spare, window);
                    picked::<R>(&work.line[..width], &work.line[window - span..][..width], row);
                }
                let span = joined::<R>(&mut work.rows, width, 2 * sizes.radius[1] + 1);
                let last = (2 * sizes.radius[1] + 1 - span) * width;
                picked::<R>(&work.rows[..plane_len], &work.rows[last..][..plane_len], plane);
            }
        }
        if flat {
            finish::<R>(&planes, &planes, &mut output.data[z * plane_len..][..plane_len]);
        }
    }
    drop(input);
    if !flat {
        let span = joined::<R>(&mut planes, plane_len, 2 * sizes.radius[0] + 1);
        let last = (2 * sizes.radius[0] + 1 - span) * plane_len;
        output = Volume::zeros(out);
        let voxels = out.voxels();
        finish::<R>(&planes[..voxels], &planes[last..][..voxels], &mut output.data);
    }
    output
}

/// Bytes alive at once in [`extremes`], with `read` bytes of input, keys of `key` bytes and voxels of `voxel` bytes.
pub(crate) fn peak_bytes(
    read: usize,
    out: Region,
    extent: Extent,
    radius: [usize; 3],
    key: usize,
    voxel: usize,
) -> usize {
    let sizes = Sizes::new(out, extent, radius);
    let [_, height, width] = out.shape();
    let keys = key * (sizes.planes * height * width + sizes.rows * width + 2 * sizes.line);
    let written = out.voxels() * voxel;
    if sizes.radius[0] == 0 { read + keys + written } else { keys + read.max(written) }
}

/// How long the buffers are.
struct Sizes {
    /// The radius, but no more than the axis is long: that sees all of it and what lies beyond both of its ends.
    radius: [usize; 3],
    /// Planes kept: all that the last axis needs, or one.
    planes: usize,
    rows: usize,
    line: usize,
}

impl Sizes {
    fn new(out: Region, extent: Extent, radius: [usize; 3]) -> Self {
        let radius: [usize; 3] = std::array::from_fn(|a| radius[a].min(extent.shape[a]));
        let [planes, rows, line] = std::array::from_fn(|a| out.shape()[a] + 2 * radius[a]);
        Self { radius, planes: if radius[0] == 0 { 1 } else { planes }, rows, line }
    }
}

/// The buffers of a plane.
struct Work<R: Rank> {
    line: Vec<R::Key>,
    spare: Vec<R::Key>,
    rows: Vec<R::Key>,
    rank: PhantomData<R>,
}

/// Makes each item of `len` keys the pick of itself and as many after it as a power of two allows in a window; returns
/// that power. Items whose span would leave the buffer are left half done: no window begins there.
fn joined<R: Rank>(items: &mut [R::Key], len: usize, window: usize) -> usize {
    let mut span = 1;
    while 2 * span <= window {
        let mut from = 0;
        while from + (span + 1) * len <= items.len() && len > 0 {
            let (before, after) = items.split_at_mut(from + span * len);
            pick_into::<R>(&mut before[from..from + len], &after[..len]);
            from += len;
        }
        span *= 2;
    }
    span
}

/// [`joined`] for items of one key, between two buffers so that lanes don't overlap.
fn along_line<R: Rank>(line: &mut Vec<R::Key>, spare: &mut Vec<R::Key>, window: usize) -> usize {
    let mut span = 1;
    while 2 * span <= window {
        let n = line.len().saturating_sub(span);
        picked::<R>(&line[..n], &line[line.len() - n..], &mut spare[..n]);
        std::mem::swap(line, spare);
        span *= 2;
    }
    span
}

vectorised! {
    /// The keys at x = `first`, `first + 1`, ... of an image row of `n` voxels, of which `row` holds those from `start`.
    fn load<R: Rank>(row: &[R::From], start: usize, n: usize, first: isize, beyond: R::Key, line: &mut [R::Key]) {
        let end = first + line.len() as isize;
        let (from, to) = (first.max(0), end.min(n as isize));
        let (head, rest) = line.split_at_mut((from - first) as usize);
        let (inside, tail) = rest.split_at_mut((to - from).max(0) as usize);
        head.fill(beyond);
        tail.fill(beyond);
        for (key, voxel) in inside.iter_mut().zip(&row[from as usize - start..]) {
            *key = R::encode(*voxel);
        }
    }

    fn pick_into<R: Rank>(to: &mut [R::Key], other: &[R::Key]) {
        for (to, other) in to.iter_mut().zip(other) {
            *to = R::pick(*to, *other);
        }
    }

    fn picked<R: Rank>(a: &[R::Key], b: &[R::Key], to: &mut [R::Key]) {
        for ((to, a), b) in to.iter_mut().zip(a).zip(b) {
            *to = R::pick(*a, *b);
        }
    }

    fn finish<R: Rank>(a: &[R::Key], b: &[R::Key], to: &mut [R::To]) {
        for ((to, a), b) in to.iter_mut().zip(a).zip(b) {
            *to = R::decode(R::pick(*a, *b));
        }
    }
}
