//! What a filter sees where its window leaves the image.

use serde::{Deserialize, Serialize};

/// The values beyond the faces of an image, as in `scipy.ndimage`'s parameter `mode`.
///
/// For an image `a b c d` the modes continue it to the left and right as
///
/// | mode | left | image | right |
/// |---|---|---|---|
/// | `Reflect` | `d c b a` | `a b c d` | `d c b a` |
/// | `Mirror` | `d c b` | `a b c d` | `c b a` |
/// | `Nearest` | `a a a a` | `a b c d` | `d d d d` |
/// | `Constant(k)` | `k k k k` | `a b c d` | `k k k k` |
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Boundary {
    /// Half-sample symmetric: the edge voxel is repeated, the period is twice the axis.
    Reflect,
    /// The edge voxel goes on for ever.
    Nearest,
    /// Whole-sample symmetric: the edge voxel is not repeated (numpy's `reflect`).
    Mirror,
    /// This value everywhere outside.
    Constant(#[serde(with = "crate::number")] f64),
}

impl Boundary {
    /// The voxel of an axis of `n >= 1` voxels that stands for index `i`, inside or outside; `None` for the constant.
    ///
    /// A kernel asks only for `i` in `a - h .. b + h`, where `a..b` is what it was asked to compute and `h` its halo, and
    /// holds the part of that range inside the image. The answer always lies in that part. A reflection at one face is
    /// no farther from the face than `i` was, and the face lies between `i` and `a..b`; so the image of `i` lies between
    /// the face and a voxel that is no farther from `a..b` than `h`. More than one reflection happens only when `h`
    /// exceeds the axis, and then the whole axis is there.
    pub fn index(&self, i: isize, n: usize) -> Option<usize> {
        let len = n as isize;
        if (0..len).contains(&i) {
            return Some(i as usize);
        }
        let inside = match self {
            // One reflection, as nearly always, takes no division.
            Boundary::Reflect if (-len..0).contains(&i) => -1 - i,
            Boundary::Reflect if (len..2 * len).contains(&i) => 2 * len - 1 - i,
            Boundary::Reflect => {
                let i = i.rem_euclid(2 * len);
                if i < len { i } else { 2 * len - 1 - i }
            }
            Boundary::Mirror if len == 1 => 0,
            Boundary::Mirror => {
                let i = i.rem_euclid(2 * len - 2);
                if i < len { i } else { 2 * len - 2 - i }
            }
            Boundary::Nearest => i.clamp(0, len - 1),
            Boundary::Constant(_) => return None,
        };
        Some(inside as usize)
    }

    /// Fills `line` with the voxels at x = `first`, `first + 1`, ... of an image row of `n` voxels, inside or outside,
    /// each passed through `convert`. `row` holds the voxels from x = `start` on, and the reflected ones among them.
    #[inline(always)]
    pub(super) fn extend_row<S: Copy, D: Copy>(
        &self,
        row: &[S],
        start: usize,
        n: usize,
        first: isize,
        line: &mut [D],
        constant: D,
        convert: impl Fn(S) -> D,
    ) {
        let end = first + line.len() as isize;
        let inside = first.max(0)..end.min(n as isize);
        let outside = |line: &mut [D], i: isize| {
            line[(i - first) as usize] = match self.index(i, n) {
                Some(at) => convert(row[at - start]),
                None => constant,
            };
        };
        for i in first..inside.start.min(end) {
            outside(line, i);
        }
        if !inside.is_empty() {
            let from = &row[inside.start as usize - start..inside.end as usize - start];
            let to = &mut line[(inside.start - first) as usize..(inside.end - first) as usize];
            for (to, from) in to.iter_mut().zip(from) {
                *to = convert(*from);
            }
        }
        for i in inside.end.max(first)..end {
            outside(line, i);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn continued(boundary: Boundary, n: usize) -> String {
        let letter = |i: isize| boundary.index(i, n).map_or('k', |at| (b'a' + at as u8) as char);
        (-9..n as isize + 9).map(letter).collect()
    }

    #[test]
    fn modes_continue_an_axis_as_numpy_pad_does() {
        assert_eq!(continued(Boundary::Reflect, 3), "cbaabccbaabccbaabccba");
        assert_eq!(continued(Boundary::Mirror, 3), "babcbabcbabcbabcbabcb");
        for n in 1..6 {
            for boundary in [Boundary::Reflect, Boundary::Mirror, Boundary::Nearest, Boundary::Constant(0.0)] {
                assert_eq!(continued(boundary, n), reference(boundary, n), "{boundary:?} {n}");
            }
        }
    }

    /// Walks outwards one voxel at a time, turning at the edges.
    fn reference(boundary: Boundary, n: usize) -> String {
        let last = n - 1;
        let walk = |mut at: usize, mut up: bool| {
            std::iter::repeat_with(move || {
                let edge = if up { at == last } else { at == 0 };
                match (boundary, edge) {
                    (Boundary::Reflect, true) => up = !up,
                    (Boundary::Mirror, true) if n > 1 => {
                        up = !up;
                        at = if up { at + 1 } else { at - 1 };
                    }
                    (_, true) => {}
                    (_, false) => at = if up { at + 1 } else { at - 1 },
                }
                if matches!(boundary, Boundary::Constant(_)) { 'k' } else { (b'a' + at as u8) as char }
            })
            .take(9)
        };
        let left: String = walk(0, false).collect();
        let middle: String = (0..n).map(|at| (b'a' + at as u8) as char).collect();
        left.chars().rev().collect::<String>() + &middle + &walk(last, true).collect::<String>()
    }

    #[test]
    fn rows_are_extended_by_what_each_index_stands_for() {
        for n in 1..6usize {
            let row: Vec<usize> = (0..n).collect();
            for boundary in [Boundary::Reflect, Boundary::Mirror, Boundary::Nearest, Boundary::Constant(0.0)] {
                for (first, len) in (-9..8).flat_map(|first| (0..17).map(move |len| (first, len))) {
                    let mut line = vec![usize::MAX; len];
                    boundary.extend_row(&row, 0, n, first, &mut line, 99, |voxel| voxel);
                    let each = (0..len).map(|i| boundary.index(first + i as isize, n).unwrap_or(99));
                    assert!(line.iter().copied().eq(each), "{boundary:?}, {len} from {first} on, of {n}");
                }
            }
        }
    }

    #[test]
    fn what_is_asked_for_outside_is_always_in_the_clipped_halo() {
        for n in 1..7usize {
            for (a, b) in (0..n).flat_map(|a| (a + 1..=n).map(move |b| (a, b))) {
                for h in 0..3 * n {
                    let held = a.saturating_sub(h)..(b + h).min(n);
                    for i in a as isize - h as isize..(b + h) as isize {
                        for boundary in [Boundary::Reflect, Boundary::Mirror, Boundary::Nearest] {
                            let at = boundary.index(i, n);
                            assert!(at.is_some_and(|at| held.contains(&at)), "{boundary:?} {i} of {n}");
                        }
                    }
                }
            }
        }
    }
}
