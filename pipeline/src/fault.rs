//! Something wrong at a known place of a job: what the parsers of TOML, JSON and the one-line form share, so that each
//! can point at the place in its own way, by line, by key or by caret.

use crate::Error;

/// A refused key or value. It becomes an [`Error`] once the place is known as the user sees it.
#[derive(Debug)]
pub(crate) struct Fault {
    /// Where in the job, as a JSON pointer: `/steps/1/sigma`; empty for the job itself.
    pub(crate) pointer: String,
    /// One sentence that names the key and the step.
    pub(crate) message: String,
    /// What would help.
    pub(crate) hint: Option<String>,
}

impl Fault {
    pub(crate) fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same, seen from the document that holds this one at `pointer`.
    pub(crate) fn under(mut self, pointer: &str) -> Self {
        self.pointer.insert_str(0, pointer);
        self
    }
}

/// Without a place: for documents whose keys say enough.
impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Error { hint: fault.hint, ..Error::invalid(fault.message) }
    }
}
