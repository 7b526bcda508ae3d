//! What must always be equal, as one test binary. [`support`] is the language the tests are written in.
#![allow(clippy::unwrap_used)]

mod support;

/// Random jobs on random images: cut up in any way, every byte is that of one block.
mod equal;
/// Objects of shapes that a merge finds hard, against flood fill.
mod shapes;
/// The laws of the merge: grouping, ranges and segments don't show.
mod merge;
/// One small test for each way in which an equality is most easily lost; `tests/breaks.sh` breaks each on purpose.
mod breaks;
