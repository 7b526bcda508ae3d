//! What the coordinator and the function agree on: the job and its plan, the tasks and their receipts, the arrays and
//! the keys of everything a run reads and writes.
//!
//! A [`job`] of [`step`]s becomes a [`plan`] of stages. A [`task`] is some units of a stage: a `map` reads blocks of an
//! [`array`](mod@array), runs [`op`]s and leaves voxels and scratch; a [`reduce`] joins what the blocks left. Everything is read
//! and written through a [`store`], under keys that [`layout`] builds. Nothing here knows where tasks run.

pub mod array;
mod buckets;
pub mod checkpoint;
mod count;
mod error;
mod fault;
pub mod fence;
#[doc(hidden)]
pub mod fuzzing;
pub mod grid;
pub mod job;
pub mod layout;
pub mod lease;
mod map;
pub mod op;
pub mod plan;
pub mod process;
pub mod publish;
pub mod pyramid;
mod record;
pub mod reduce;
mod rows;
mod scratch;
pub mod sources;
pub mod stale;
pub mod state;
pub mod step;
pub mod store;
pub mod task;
pub mod verify;
pub mod wire;
mod zstandard;

pub use error::{Error, Kind, Result, Throttled, cause};
