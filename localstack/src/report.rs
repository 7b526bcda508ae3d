//! What Lambda writes into the log around an invocation: START, END and REPORT, or the same as JSON, and the last 4 KB of
//! it, which a caller may ask for.

use base64::Engine;
use serde_json::{Value, json};

use crate::ids;

/// What of a log comes back with an answer (`X-Amz-Log-Result`).
pub(crate) const TAIL_BYTES: usize = 4096;

/// How the function's log is written (`LoggingConfig.LogFormat`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Lines of text.
    Text,
    /// A JSON object a line.
    Json,
}

/// How an invocation ended, as its report says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// The function answered.
    Success,
    /// The function said that it failed: a text report doesn't mention it.
    Reported(String),
    /// The function's process ended, or was ended.
    Broken(String),
    /// It ran out of time.
    Timeout,
}

/// What was measured of an invocation.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// From the event to the function's next request for one.
    pub(crate) duration_ms: f64,
    /// How long a process took to be ready, where one was started for it.
    pub(crate) init_ms: Option<f64>,
    /// What the function may use.
    pub(crate) memory_mb: u64,
    /// What its process has used at most so far.
    pub(crate) max_memory_mb: u64,
}

impl Metrics {
    /// The milliseconds that are paid for: the start is, since August 2025 for every kind of function.
    pub(crate) fn billed_ms(&self) -> u64 {
        (self.duration_ms + self.init_ms.unwrap_or(0.0)).ceil().max(1.0) as u64
    }
}

/// The line that begins an invocation.
pub(crate) fn start(format: Format, request: &str, version: &str) -> String {
    match format {
        Format::Text => format!("START RequestId: {request} Version: {version}\n"),
        Format::Json => platform("platform.start", json!({ "requestId": request, "version": version })),
    }
}

/// The lines that end one.
pub(crate) fn end(format: Format, request: &str, metrics: &Metrics, status: &Status) -> String {
    let billed = metrics.billed_ms();
    let Metrics { duration_ms, init_ms, memory_mb, max_memory_mb } = metrics;
    match format {
        Format::Text => {
            let mut line = format!(
                "END RequestId: {request}\nREPORT RequestId: {request}\tDuration: {duration_ms:.2} ms\tBilled Duration: \
                 {billed} ms\tMemory Size: {memory_mb} MB\tMax Memory Used: {max_memory_mb} MB\t"
            );
            if let Some(init) = init_ms {
                line += &format!("Init Duration: {init:.2} ms\t");
            }
            match status {
                Status::Success | Status::Reported(_) => {}
                Status::Broken(kind) => line += &format!("Status: error\tError Type: {kind}\t"),
                Status::Timeout => line += "Status: timeout\t",
            }
            line + "\n"
        }
        Format::Json => {
            let mut numbers = json!({
                "durationMs": (duration_ms * 1000.0).round() / 1000.0,
                "billedDurationMs": billed,
                "memorySizeMB": memory_mb,
                "maxMemoryUsedMB": max_memory_mb,
            });
            if let Some(init) = init_ms {
                numbers["initDurationMs"] = json!((init * 1000.0).round() / 1000.0);
            }
            let mut record = json!({ "requestId": request, "metrics": numbers, "status": "success" });
            match status {
                Status::Success => {}
                Status::Reported(kind) | Status::Broken(kind) => {
                    record["status"] = json!("error");
                    record["errorType"] = json!(kind);
                }
                Status::Timeout => record["status"] = json!("timeout"),
            }
            platform("platform.report", record)
        }
    }
}

/// The line about a start that came to nothing, or that was tried again within the invocation.
pub(crate) fn init(format: Format, duration_ms: f64, phase: &str, failure: Option<&str>) -> String {
    match format {
        Format::Text => {
            let status = match failure {
                None => "Status: timeout".to_owned(),
                Some(kind) => format!("Status: error\tError Type: {kind}"),
            };
            format!("INIT_REPORT Init Duration: {duration_ms:.2} ms\tPhase: {phase}\t{status}\n")
        }
        Format::Json => {
            let mut record = json!({
                "initializationType": "on-demand",
                "phase": phase,
                "metrics": { "durationMs": (duration_ms * 1000.0).round() / 1000.0 },
                "status": if failure.is_some() { "error" } else { "timeout" },
            });
            if let Some(kind) = failure {
                record["errorType"] = json!(kind);
            }
            platform("platform.initReport", record)
        }
    }
}

/// A line of Lambda's own about the function's process, such as how it ended.
pub(crate) fn remark(format: Format, text: &str) -> String {
    match format {
        Format::Text => format!("{text}\n"),
        Format::Json => {
            let line = json!({ "timestamp": ids::iso(ids::now_ms()), "level": "ERROR", "message": text, "type": "platform.fault" });
            format!("{line}\n")
        }
    }
}

fn platform(kind: &str, record: Value) -> String {
    format!("{}\n", json!({ "time": ids::iso(ids::now_ms()), "type": kind, "record": record }))
}

/// The last bytes of a log as a header carries them.
pub(crate) fn tail(log: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(&log[log.len().saturating_sub(TAIL_BYTES)..])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn metrics() -> Metrics {
        Metrics { duration_ms: 12.304, init_ms: Some(80.5), memory_mb: 2048, max_memory_mb: 31 }
    }

    #[test]
    fn a_text_report_reads_as_lambdas_own() {
        assert_eq!(start(Format::Text, "r", "$LATEST"), "START RequestId: r Version: $LATEST\n");
        assert_eq!(
            end(Format::Text, "r", &metrics(), &Status::Success),
            "END RequestId: r\nREPORT RequestId: r\tDuration: 12.30 ms\tBilled Duration: 93 ms\tMemory Size: 2048 MB\tMax \
             Memory Used: 31 MB\tInit Duration: 80.50 ms\t\n"
        );
        let warm = Metrics { init_ms: None, ..metrics() };
        assert!(
            end(Format::Text, "r", &warm, &Status::Timeout).ends_with("Max Memory Used: 31 MB\tStatus: timeout\t\n")
        );
        let broken = end(Format::Text, "r", &warm, &Status::Broken("Runtime.ExitError".into()));
        assert!(broken.ends_with("\tStatus: error\tError Type: Runtime.ExitError\t\n"), "{broken}");
        assert_eq!(warm.billed_ms(), 13);
        assert_eq!(
            init(Format::Text, 9999.999, "init", None),
            "INIT_REPORT Init Duration: 10000.00 ms\tPhase: init\tStatus: timeout\n"
        );
    }

    #[test]
    fn a_json_report_has_its_record() {
        let line: Value = serde_json::from_str(&end(Format::Json, "r", &metrics(), &Status::Timeout)).unwrap();
        assert_eq!(line["type"], "platform.report");
        assert_eq!(line["record"]["status"], "timeout");
        assert_eq!(
            line["record"]["metrics"],
            json!({ "durationMs": 12.304, "billedDurationMs": 93, "memorySizeMB": 2048, "maxMemoryUsedMB": 31,
                    "initDurationMs": 80.5 })
        );
    }

    #[test]
    fn the_tail_is_the_end_of_the_log() {
        let decode = |s: String| base64::engine::general_purpose::STANDARD.decode(s).unwrap();
        assert_eq!(decode(tail(b"short")), b"short");
        let long: Vec<u8> = (0..10_000u32).map(|n| n as u8).collect();
        assert_eq!(decode(tail(&long)), &long[10_000 - 4096..]);
    }
}
