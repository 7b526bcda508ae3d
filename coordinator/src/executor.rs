//! Executors: where a task is carried out. One carries one task and brings back its answer; it neither retries nor
//! decides what is next, which is [`dispatch`](crate::dispatch)'s.

mod local;

use async_trait::async_trait;
use pipeline::Result;
use pipeline::task::{Answer, Attempt};

pub use local::Local;

/// Carries out tasks.
#[async_trait]
pub trait Executor: Send + Sync + 'static {
    /// Carries out one attempt of one task.
    async fn run(&self, attempt: &Attempt) -> Result<Answer>;

    /// Tasks that are worth having under way at once.
    fn in_flight(&self) -> usize;
}
