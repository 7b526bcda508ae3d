//! What coordinator and function say to each other: a call of a few numbers, an answer of a few numbers, never voxels.
//!
//! Errors go over the wire as they are: kind, message, hint.

use serde::{Deserialize, Serialize};

use crate::plan::memory::Resources;
use crate::store::Requests;
use crate::task::{Answer, Attempt};
use crate::{Error, Kind, Result};

/// What a function is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Version of the voxmill that asks; another one refuses.
    pub voxmill: String,
    /// Where the run is.
    pub output: String,
    /// Names one coordinator's work on the run: what a function remembers of another's is forgotten.
    pub run: String,
    /// What is to be done.
    pub call: Call,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Call {
    /// To try whether a run could work that reads these URLs.
    Check {
        /// The arrays it reads.
        reads: Vec<String>,
    },
    /// To carry out an attempt.
    Attempt(Attempt),
}

/// What a function says when it has done it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// What came of it.
    pub said: Said,
    /// What was asked of the stores meanwhile.
    pub requests: Requests,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Said {
    /// A run could work, with so many threads.
    Ready {
        /// Threads that compute.
        threads: usize,
    },
    /// The answer of an attempt.
    Answer(Answer),
}

impl Request {
    /// Refuses to be asked by another version.
    ///
    /// # Errors
    /// Invalid, saying who is who.
    pub fn check_version(&self) -> Result<()> {
        let ours = env!("CARGO_PKG_VERSION");
        if self.voxmill == ours {
            return Ok(());
        }
        Err(Error::invalid(format!("the function is voxmill {ours}, and was called by voxmill {}", self.voxmill))
            .hint("deploy the function of the version that you run, or run the version that is deployed"))
    }
}

/// Memory of a function that buys it a whole vCPU, in MiB (AWS Lambda's documentation, "Configure Lambda function memory").
pub const MIB_PER_CPU: u64 = 1769;

/// What a function of so much memory computes with. The program itself, and what the system keeps of it, take their part.
pub fn resources(memory_mib: u64) -> Resources {
    let threads = memory_mib.div_ceil(MIB_PER_CPU).max(1) as usize;
    let memory_bytes = (memory_mib << 20) / 8 * 7;
    Resources { memory_bytes, threads, merge_bytes: None }
}

/// How a function's error is called where it is told of; see [`error_of`].
pub fn error_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Invalid => "voxmill.Invalid",
        Kind::Unavailable => "voxmill.Unavailable",
        Kind::Data => "voxmill.Data",
        Kind::Internal => "voxmill.Internal",
    }
}

/// The error of that type with that message; none when it is none of a function's own.
pub fn error_of(error_type: &str, message: &str) -> Option<Error> {
    let kinds = [Kind::Invalid, Kind::Unavailable, Kind::Data, Kind::Internal];
    let kind = kinds.into_iter().find(|kind| self::error_type(*kind) == error_type)?;
    // A message that is no error of ours is one that was cut short.
    let whole = serde_json::from_str(message).ok();
    whole.filter(|error: &Error| error.kind == kind).or_else(|| Some(Error::of(kind, message)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn errors_come_back_as_they_were() {
        for error in
            [Error::invalid("a").hint("b"), Error::throttled("slow \"down\""), Error::data("c"), Error::internal("d")]
        {
            let sent = serde_json::to_string(&error).unwrap();
            assert_eq!(error_of(error_type(error.kind), &sent), Some(error));
        }
        let cut = error_of("voxmill.Data", "{\"kind\":\"data\",\"mess").unwrap();
        assert_eq!(cut.kind, Kind::Data);
        assert_eq!(error_of("Runtime.ExitError", "x"), None);
    }

    #[test]
    fn memory_buys_threads() {
        let threads = |mib| resources(mib).threads;
        assert_eq!([128, 1769, 1770, 3538, 10_240].map(threads), [1, 1, 2, 2, 6]);
        assert_eq!(resources(1024).memory_bytes, 896 << 20);
    }
}
