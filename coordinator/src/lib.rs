//! The coordinator: the command line, the dispatch of tasks to an executor, and what people are told.
//!
//! [`cli`] is what can be typed. [`run`] turns a job into a plan and takes the output; [`dispatch`] sends tasks stage by
//! stage through an [`executor`]; [`progress`] and [`report`] talk. Everything that computes or decides is in the crate
//! `pipeline`, so that a run without this coordinator would give the same bytes.

pub mod cli;
pub mod commands;
mod credentials;
mod demo;
mod dice;
pub mod dispatch;
mod dot;
pub mod executor;
pub mod exit;
pub mod export;
#[doc(hidden)]
pub mod fuzzing;
pub mod hold;
pub mod import;
pub mod info;
mod machine;
pub mod memory;
mod output;
pub mod price;
pub mod progress;
pub mod pyramid;
mod replay;
pub mod report;
pub mod run;
mod runtime;
pub mod slice;
pub mod table;
mod units;
mod verify;

use std::process::ExitCode;

use clap::Parser;

/// What is logged unless VOXMILL_LOG says more. What the SDK tries in vain is no news: what came of it is told.
const LOG: &str = "warn,aws_config=error,aws_credential_types=error,aws_smithy_runtime=off";

/// The program: everything but the process itself.
pub fn main() -> ExitCode {
    pipeline::process::keep_memory_tight();
    memory::explain_when_it_is_out();
    exit::hush_broken_pipes();
    let cli = cli::Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_env("VOXMILL_LOG").unwrap_or_else(|_| LOG.into()))
        .with_writer(std::io::stderr)
        .init();
    match keep_to_level().and_then(|()| commands::execute(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            exit::explain(&stop);
            stop.code()
        }
    }
}

/// Kernels run at the highest level of vector instructions that the processor has, or at a lower one by `VOXMILL_SIMD`:
/// for who measures, or doubts that both give the same.
fn keep_to_level() -> Result<(), exit::Stop> {
    let Some(name) = std::env::var_os("VOXMILL_SIMD") else { return Ok(()) };
    let Some(level) = name.to_str().and_then(voxel::simd::Level::named) else {
        let error = pipeline::Error::invalid(format!("VOXMILL_SIMD is {name:?}, which is no level"))
            .hint("it is baseline, avx2 or avx512; without it, the best that the processor has is used");
        return Err(error.into());
    };
    voxel::simd::keep_to(level);
    Ok(())
}
