//! What ran: a record of every invocation, kept to be asked for and written to a file as it ends.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// One invocation.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Record {
    pub(crate) request_id: String,
    pub(crate) function: String,
    pub(crate) version: String,
    /// The instance that ran it; none where it came to none.
    pub(crate) instance: Option<String>,
    /// Whether a process was started for it.
    pub(crate) cold: bool,
    /// Whether the caller waited (`RequestResponse`) or it was queued (`Event`).
    pub(crate) invocation_type: &'static str,
    /// Which try it was; an event may have three.
    pub(crate) attempt: u32,
    /// Milliseconds since 1970.
    pub(crate) start_ms: u64,
    pub(crate) end_ms: u64,
    pub(crate) duration_ms: f64,
    pub(crate) init_ms: Option<f64>,
    pub(crate) billed_ms: u64,
    pub(crate) memory_mb: u64,
    pub(crate) max_memory_mb: u64,
    pub(crate) request_bytes: usize,
    pub(crate) response_bytes: usize,
    /// `ok`, `error` (the function said so), `timeout`, `out_of_memory`, `exit`, `killed` (a fault), `init_timeout`,
    /// `init_exit`, `init_error` or `too_large`.
    pub(crate) outcome: &'static str,
    /// The type of the error, where it ended in one.
    pub(crate) error_type: Option<String>,
    /// What was done to the answer after the function had run: `bad_gateway`, `drop_after` or `slow`.
    pub(crate) fault: Option<&'static str>,
}

/// All records since the start, or since they were cleared.
#[derive(Debug, Default)]
pub(crate) struct Log {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    records: Vec<Record>,
    file: Option<File>,
}

impl Log {
    /// A log that also writes to a file, a JSON object a line, after what is there already.
    pub(crate) fn to_file(path: &Path) -> std::io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        Ok(Self { inner: Mutex::new(Inner { records: Vec::new(), file: Some(file) }) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a record.
    pub(crate) fn add(&self, record: Record) {
        let mut inner = self.lock();
        if let (Some(file), Ok(mut line)) = (&mut inner.file, serde_json::to_vec(&record)) {
            line.push(b'\n');
            // A full disk must not stop the invocations; the records here are still whole.
            let _ = file.write_all(&line);
        }
        inner.records.push(record);
    }

    /// The records from a place on.
    pub(crate) fn since(&self, from: usize) -> Vec<Record> {
        self.lock().records.get(from..).unwrap_or_default().to_vec()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.lock().records.len()
    }

    /// Forgets the records; the file keeps them.
    pub(crate) fn clear(&self) {
        self.lock().records.clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn records_are_kept_and_written() {
        let path = std::env::temp_dir().join(format!("invocations-{}.jsonl", std::process::id()));
        let log = Log::to_file(&path).unwrap();
        for attempt in 1..=3 {
            log.add(Record { attempt, outcome: "ok", ..Record::default() });
        }
        assert_eq!(log.since(1).iter().map(|r| r.attempt).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(log.since(9).len(), 0);
        log.clear();
        assert_eq!(log.len(), 0);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(text.lines().count(), 3);
        assert_eq!(serde_json::from_str::<serde_json::Value>(text.lines().next().unwrap()).unwrap()["outcome"], "ok");
    }
}
