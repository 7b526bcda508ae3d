//! The same job on S3 and Lambda, against a real S3 server and the real function, run by an endpoint that does as AWS does.
//! They need what `localstack/up` starts and its variables, so they run only where asked for (`./check` does), one at a time:
//!
//! ```text
//! eval "$(localstack/up)"
//! cargo nextest run --workspace --run-ignored only -E 'test(/^aws::/)' -j 1
//! ```

mod cloud;
/// Functions that die, answers that are lost, a store that is gone: the same bytes.
mod faults;
/// Functions with little time, few rights, other logs.
mod limits;
/// What it costs: what was asked for, and what was paid.
mod paid;
/// Every kind of stage, byte by byte what a run on a disk gives.
mod same;
/// What people get wrong with buckets and functions: one clear sentence, the right exit code.
mod told;
