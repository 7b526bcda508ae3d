//! Errors, coarse on purpose: a kind says what to do next, the message says everything else.
//!
//! The kind alone drives retries and exit codes, and survives the wire; the message names what, where (URL, chunk
//! index, key of the job) and the numbers; a hint names the flag or key to change.

use serde::{Deserialize, Serialize};

/// What the caller does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Fix the request: the job, a flag, a permission, an address.
    Invalid,
    /// Try again, or free what is full: the store or the function could not do it now.
    Unavailable,
    /// Look at the data: a chunk is damaged, or holds nothing that could answer.
    Data,
    /// Report it: voxmill broke a promise of its own.
    Internal,
}

/// One failed request, in a form that can be sent back from a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What the caller does next.
    pub kind: Kind,
    /// One clear sentence: what, where, with which numbers.
    pub message: String,
    /// What would help, where something would: a flag, a key, a command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Unavailable because too much was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled: Option<Throttled>,
}

/// What there was too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Throttled {
    /// At once: fewer at a time help.
    AtOnce,
    /// In a second: a pause helps.
    TooFast,
}

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of a kind.
    pub fn of(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, throttled: None }
    }

    /// The request can't be carried out as it stands.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::of(Kind::Invalid, message)
    }

    /// The store or the function can't do it now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::of(Kind::Unavailable, message)
    }

    /// The store or the function can't do so much at once.
    pub fn throttled(message: impl Into<String>) -> Self {
        Self { throttled: Some(Throttled::AtOnce), ..Self::unavailable(message) }
    }

    /// The store or the function can't do so much in so short a time.
    pub fn too_fast(message: impl Into<String>) -> Self {
        Self { throttled: Some(Throttled::TooFast), ..Self::unavailable(message) }
    }

    /// The data can't be what it claims to be.
    pub fn data(message: impl Into<String>) -> Self {
        Self::of(Kind::Data, message)
    }

    /// voxmill broke a promise of its own.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::of(Kind::Internal, message)
    }

    /// Adds what would help.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts `context: ` before the message, to say where it happened.
    pub fn at(mut self, context: impl std::fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }
}

/// What of this type caused an error, however deep.
pub fn cause<'a, T: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a T> {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(found) = inner.downcast_ref::<T>() {
            return Some(found);
        }
        cause = inner.source();
    }
    None
}
