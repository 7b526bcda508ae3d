//! What the coordinator and the function agree on: the job and its plan, the tasks and their receipts, the arrays and
//! the keys of everything a run reads and writes.

pub mod array;
mod error;
mod fault;
pub mod job;
pub mod step;
pub mod store;

pub use error::{Error, Kind, Result};
