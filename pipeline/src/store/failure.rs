//! What a failed request means for the caller: the kind, and a sentence that says what to do about it.

use std::io;

use super::s3::Refusal;
use crate::{Error, cause};

/// What was being done, for the sentence.
#[derive(Clone, Copy, Debug)]
pub(super) enum Doing {
    Read,
    Write,
    Delete,
    List,
}

impl Doing {
    fn verb(self) -> &'static str {
        match self {
            Doing::Read => "read",
            Doing::Write => "write",
            Doing::Delete => "delete",
            Doing::List => "list",
        }
    }
}

/// The error for a failed request on the object `name` (its full path or URL).
pub(super) fn failure(doing: Doing, name: &str, error: &object_store::Error) -> Error {
    use object_store::Error as E;
    // What was found out before the request was sent, or in its answer, says more than the backend's words.
    if let Some(error) = cause::<Error>(error) {
        return error.clone();
    }
    if let Some(meant) = cause::<Refusal>(error).and_then(|refusal| refusal.meaning(doing.verb(), name)) {
        return meant;
    }
    match error {
        E::PermissionDenied { .. } => denied(doing, name),
        E::Unauthenticated { .. } => Error::invalid(format!("no valid credentials to {} {name}", doing.verb())),
        E::InvalidPath { source } => Error::invalid(format!("{name} can't be used as a path: {source}")),
        E::NotSupported { source } => Error::invalid(format!("can't {} {name}: {source}", doing.verb())),
        E::NotImplemented { operation, .. } => Error::internal(format!("can't {} {name}: {operation}", doing.verb())),
        _ => match io_error(error) {
            Some(io) => io_failure(doing, name, io),
            None if is_throttling(error) => {
                Error::throttled(format!("can't {} {name}: {}", doing.verb(), in_short(error)))
            }
            None => Error::unavailable(format!("can't {} {name}: {}", doing.verb(), in_short(error))),
        },
    }
}

/// True when the store asks for fewer requests: the library tells that in words only.
fn is_throttling(error: &object_store::Error) -> bool {
    let text = error.to_string();
    ["SlowDown", "Slow Down", "429 Too Many Requests", "RequestLimitExceeded"].iter().any(|said| text.contains(said))
}

/// What the backend says, without the page that a web server may have sent along.
fn in_short(error: &object_store::Error) -> String {
    const CHARS: usize = 300;
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default().trim_end_matches([':', ' ']);
    if line.chars().count() > CHARS { line.chars().take(CHARS).chain("...".chars()).collect() } else { line.to_owned() }
}

/// The same for an error of the operating system.
pub(super) fn io_failure(doing: Doing, name: &str, error: &io::Error) -> Error {
    use io::ErrorKind as K;
    let verb = doing.verb();
    match error.kind() {
        K::PermissionDenied => denied(doing, name),
        K::ReadOnlyFilesystem => Error::invalid(format!("can't {verb} {name}: the file system is read-only")),
        K::StorageFull => Error::unavailable(format!("can't {verb} {name}: the disk is full"))
            .hint("free some space and run the same command again: a run goes on where it stopped"),
        K::QuotaExceeded => Error::unavailable(format!("can't {verb} {name}: the disk quota is used up"))
            .hint("free some space and run the same command again: a run goes on where it stopped"),
        K::FileTooLarge => Error::unavailable(format!("can't {verb} {name}: no file may be so large here"))
            .hint("raise the limit (ulimit -f) and run the same command again: a run goes on where it stopped"),
        K::NotADirectory | K::AlreadyExists if matches!(doing, Doing::Write) => {
            Error::invalid(format!("can't {verb} {name}: a file is in the way of a folder"))
        }
        K::IsADirectory | K::DirectoryNotEmpty if matches!(doing, Doing::Write) => {
            Error::invalid(format!("can't {verb} {name}: a folder of that name is there"))
        }
        K::InvalidFilename => Error::invalid(format!("can't {verb} {name}: the file system refuses the name")),
        K::ConnectionRefused => Error::unavailable(format!("can't {verb} {name}: nobody answers at its address"))
            .hint("check the address: of buckets, it is AWS_ENDPOINT_URL_S3 where that is set, else AWS's"),
        _ => Error::unavailable(format!("can't {verb} {name}: {error}")),
    }
}

/// True when the error says, beyond doubt, that no such object exists.
pub(super) fn is_not_found(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { .. })
        // A file where the key wants a folder: `scan.tif/zarr.json`.
        || io_error(error).is_some_and(|e| e.kind() == io::ErrorKind::NotADirectory)
}

fn denied(doing: Doing, name: &str) -> Error {
    let error = Error::invalid(format!("no permission to {} {name}", doing.verb()));
    match (name.starts_with("s3://"), doing) {
        (false, _) => error,
        // S3 won't even say that an object is missing to who may not list.
        (true, Doing::Read) => error.hint(
            "allow s3:GetObject on it and s3:ListBucket on its bucket: without the latter, a missing object is denied, too",
        ),
        (true, Doing::Write) => error.hint("allow s3:PutObject on it"),
        (true, Doing::Delete) => error.hint("allow s3:DeleteObject on it"),
        (true, Doing::List) => error.hint("allow s3:ListBucket on its bucket"),
    }
}

/// The operating system's error at the root of a backend's, which is where a local store keeps what went wrong.
fn io_error(error: &object_store::Error) -> Option<&io::Error> {
    cause(error)
}
