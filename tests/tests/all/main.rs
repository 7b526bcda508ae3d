//! All tests of the whole program, as one binary. [`support`] runs jobs in process, [`program`] the program itself.

#![allow(clippy::unwrap_used)]

mod program;
mod support;

/// What is done is done once, and what has changed is done again.
mod again;
/// On S3 and Lambda.
mod aws;
/// Files that can't be imported: what people are told, and that nothing is left.
mod bad_import;
/// What people get wrong, and what the world does to them: one clear sentence, the right exit code, nothing left half.
mod bad_input;
/// One small test for each way in which an equality is most easily lost; `tests/breaks.sh` breaks each on purpose.
mod breaks;
/// A store and workers that fail in every way they can, from a seed.
mod chaos;
/// What is deleted, in which order.
mod clearing;
/// Every command, as it is typed.
mod cli;
/// Input that is damaged, and names that lead elsewhere.
mod damage;
/// Random jobs on random images: cut up in any way, every byte is that of one block.
mod equal;
/// Tasks that fail for good, and the end of memory.
mod failures;
/// Runs that are killed, interrupted, doubled, damaged.
mod faults;
/// What each op gives, against hashes of what it gave before.
mod golden_ops;
/// Vector instructions and workers, neither of which may show.
mod levels;
/// The promise that no run holds more than its plan says, measured.
mod memory;
/// The laws of the merge: grouping, ranges and segments don't show.
mod merge;
/// The protocol that keeps an output whole, as a model whose every state is looked at.
mod protocol;
/// Levels of images, made by an import or added later.
mod pyramid;
/// What a plan says it will ask of the store, against what a run asks.
mod requests;
/// Scratch objects of the first version of their format.
mod scratch_v1;
/// Objects of shapes that a merge finds hard, against flood fill.
mod shapes;
/// Jobs that take over packed chunks as they are.
mod verbatim;
/// Whether answers are what was written, and right.
mod verify;
