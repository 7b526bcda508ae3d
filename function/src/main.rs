//! The function: one call in, what became of it out. What computes is the crate `pipeline`, the same as in the
//! coordinator's own process.
//!
//! `environment` is what AWS and the template tell it, `allowed` what it may touch, `handler` what it does with a call.

mod allowed;
mod environment;
mod handler;

use std::process::ExitCode;
use std::sync::Arc;

use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use pipeline::wire::{Reply, Request, error_type};
use pipeline::{Error, Result};

use environment::Environment;
use handler::Handler;

#[global_allocator]
static ALLOCATOR: pipeline::process::Reusing = pipeline::process::Reusing::new();

fn main() -> ExitCode {
    pipeline::process::keep_memory_tight();
    let filter = tracing_subscriber::EnvFilter::try_from_env("VOXMILL_LOG");
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter(filter.unwrap_or_else(|_| "info".into()))
        .init();
    // A function that can't work says so when it is called, where somebody hears it.
    let handler = Environment::read(|name| std::env::var(name).ok()).map(Handler::new);
    let threads = handler.as_ref().map_or(1, Handler::threads);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "threads can't be started");
            return ExitCode::FAILURE;
        }
    };
    let handler = Arc::new(handler);
    let answer = service_fn(move |event: LambdaEvent<serde_json::Value>| {
        let handler = Arc::clone(&handler);
        async move { told(answer(handler.as_ref().as_ref(), event).await) }
    });
    match runtime.block_on(lambda_runtime::run(answer)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the runtime API is gone");
            ExitCode::FAILURE
        }
    }
}

async fn answer(handler: Result<&Handler, &Error>, event: LambdaEvent<serde_json::Value>) -> Result<Reply> {
    let handler = handler.map_err(Clone::clone)?;
    let request: Request = serde_json::from_value(event.payload)
        .map_err(|e| Error::invalid(format!("the function was called with what it does not know: {e}")))?;
    handler.answer(&request, &event.context.request_id, event.context.deadline).await
}

/// An error as AWS counts it, so that its alarms ring, and as the coordinator takes it apart again.
fn told(answer: Result<Reply>) -> Result<Reply, Diagnostic> {
    answer.map_err(|error| {
        let message = serde_json::to_string(&error).unwrap_or_else(|_| error.message.clone());
        Diagnostic { error_type: error_type(error.kind).to_owned(), error_message: message }
    })
}
