//! What must always be equal, as one test binary. [`support`] is the language the tests are written in.
#![allow(clippy::unwrap_used)]

mod support;

/// One small test for each way in which an equality is most easily lost; `tests/breaks.sh` breaks each on purpose.
mod breaks;
/// Random jobs on random images: cut up in any way, every byte is that of one block.
mod equal;
/// The laws of the merge: grouping, ranges and segments don't show.
mod merge;
/// Objects of shapes that a merge finds hard, against flood fill.
mod shapes;
