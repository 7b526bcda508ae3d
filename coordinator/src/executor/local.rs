//! The local executor: a worker in this process, whose threads share one cache of decoded chunks.

use std::sync::Arc;

use async_trait::async_trait;
use pipeline::Result;
use pipeline::task::{Answer, Attempt, Worker};

use super::{Began, Executor, Terms, Used};
use crate::progress::Progress;

/// Carries out tasks in this process.
pub struct Local {
    worker: Arc<Worker>,
    progress: Arc<Progress>,
}

impl Local {
    /// An executor around an open worker, which tells `progress` of every unit.
    pub fn new(worker: Worker, progress: Arc<Progress>) -> Self {
        Self { worker: Arc::new(worker), progress }
    }
}

#[async_trait]
impl Executor for Local {
    async fn run(&self, attempt: &Attempt, began: &Began, _used: &Used) -> Result<Answer> {
        began.now();
        self.worker.run(attempt, |unit| self.progress.unit_done(unit)).await
    }

    /// The units of all segments run side by side, the lowest first. A worker here ends with the process, so nothing needs to
    /// be given up or kept out.
    fn terms(&self) -> Terms {
        let threads = self.worker.threads();
        Terms { in_flight: threads + 1, units: Some(threads), backups: false, attempt_limit: None, ramp: None }
    }
}
