//! The Lambda executor: an attempt is an invocation of a deployed function, which is waited for.
//!
//! The SDK sends once and waits as long as it takes: tries are dispatch's, and how long an attempt may take is in its
//! terms. `function` finds out what is deployed, `report` reads what an invocation took, `refusal` what went wrong.

mod function;
mod refusal;
mod report;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_lambda::operation::invoke::InvokeOutput;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::LogType;
use pipeline::task::{Answer, Attempt};
use pipeline::wire::{Call, Reply, Request, Said};
use pipeline::{Error, Result};

use super::{Began, Executor, Ramp, Terms, Usage, Used};
use crate::progress::Progress;

pub use function::{FUNCTION_VARIABLE, Function};
use report::Report;

/// What a message may hold; those of a run are a thousandth of it.
const PAYLOAD_BYTES: usize = 1 << 20;

/// How AWS lets a function grow (its documentation, "Lambda scaling behavior"): so many at once, and as many more in each
/// ten seconds.
const RAMP: Ramp = Ramp { at_once: 1000, per_second: 100.0 };

/// Carries out tasks by invoking a function.
pub struct Lambda {
    function: Arc<Function>,
    /// Names this coordinator's work on the run.
    run: String,
    output: String,
    workers: usize,
    progress: Arc<Progress>,
}

impl Lambda {
    /// An executor that invokes `function` for the run in `output`, at most `workers` times at once.
    pub fn new(function: Arc<Function>, output: &str, run: String, workers: usize, progress: Arc<Progress>) -> Self {
        Self { function, run, output: output.to_owned(), workers, progress }
    }

    /// Tries whether the function could carry out a run that reads these URLs; tells `used` what that took.
    ///
    /// # Errors
    /// What keeps it from that: another version, a place it may not touch, rights that its role lacks.
    pub async fn check(&self, reads: Vec<String>, used: &Used) -> Result<()> {
        match self.call(Call::Check { reads }, used).await?.said {
            Said::Ready { .. } => Ok(()),
            Said::Answer(_) => Err(Error::internal("the function answered what it was not asked")),
        }
    }

    async fn call(&self, call: Call, used: &Used) -> Result<Reply> {
        let (output, run) = (self.output.clone(), self.run.clone());
        let request = Request { voxmill: env!("CARGO_PKG_VERSION").to_owned(), output, run, call };
        let payload =
            serde_json::to_vec(&request).map_err(|e| Error::internal(format!("a call can't be written: {e}")))?;
        if payload.len() > PAYLOAD_BYTES {
            return Err(Error::internal(format!("a call has {} bytes", payload.len())));
        }
        let Function { client, name, version, .. } = &*self.function;
        let invoked = client
            .invoke()
            .function_name(name)
            .qualifier(version)
            .log_type(LogType::Tail)
            .payload(Blob::new(payload))
            .send()
            .await;
        let output = invoked.map_err(|e| refusal::refused(&self.function, e))?;
        self.reply(&output, used)
    }

    /// What an invocation that came to an end says, well or not.
    fn reply(&self, output: &InvokeOutput, used: &Used) -> Result<Reply> {
        let report = output.log_result().and_then(Report::of_log);
        let payload = output.payload().map(AsRef::as_ref).unwrap_or_default();
        let reply = match output.function_error() {
            Some(_) => Err(refusal::failed(&self.function, payload, report.as_ref())),
            None => serde_json::from_slice::<Reply>(payload).map_err(|e| {
                Error::invalid(format!("the function {} answered what no voxmill does: {e}", self.function))
                    .hint("name the function that infra/ deploys with --function or VOXMILL_FUNCTION")
            }),
        };
        let requests = reply.as_ref().ok().map(|reply| reply.requests);
        used.set(match report {
            Some(report) => report.usage(requests),
            // The tail of the log may be cut; what ended is over all the same.
            None => Usage { memory_mib: self.function.memory_mib, requests, ..Usage::default() },
        });
        reply
    }
}

#[async_trait]
impl Executor for Lambda {
    async fn run(&self, attempt: &Attempt, began: &Began, used: &Used) -> Result<Answer> {
        // What waits for an instance waits on AWS's side, and can't be told from what computes.
        began.now();
        match self.call(Call::Attempt(attempt.clone()), used).await?.said {
            Said::Answer(answer) => {
                if let (pipeline::task::Task::Segment { first, .. }, Answer::Done { end }) = (attempt.task, &answer) {
                    self.progress.units_done(end.saturating_sub(first));
                }
                Ok(answer)
            }
            Said::Ready { .. } => Err(Error::internal("the function answered what it was not asked")),
        }
    }

    fn terms(&self) -> Terms {
        // A start is given its time, and so is the way there and back.
        let limit = self.function.timeout + Duration::from_secs(30);
        Terms { in_flight: self.workers, units: None, backups: true, attempt_limit: Some(limit), ramp: Some(RAMP) }
    }
}
