//! The REPORT line that AWS writes at the end of an invocation's log, as text or as JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pipeline::store::Requests;
use serde_json::Value;

use crate::executor::Usage;

/// What an invocation took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Report {
    pub(super) billed_ms: u64,
    /// Of the start, where there was one.
    pub(super) init_ms: Option<f64>,
    pub(super) memory_mib: u64,
    pub(super) peak_mib: u64,
}

impl Report {
    /// Finds it in the tail of a log, in base64 as it comes with the answer.
    pub(super) fn of_log(tail: &str) -> Option<Self> {
        let bytes = STANDARD.decode(tail).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        text.lines().rev().find_map(|line| Self::of_text(line).or_else(|| Self::of_json(line)))
    }

    /// `REPORT RequestId: ...  Duration: 12.3 ms  Billed Duration: 13 ms  Memory Size: 128 MB ...`, parted by tabs.
    fn of_text(line: &str) -> Option<Self> {
        let fields = line.trim_start().strip_prefix("REPORT ")?;
        let field = |name: &str| {
            let value = fields.split('\t').find_map(|field| field.trim().strip_prefix(name)?.strip_prefix(": "))?;
            value.split_whitespace().next()?.parse::<f64>().ok()
        };
        Some(Self {
            billed_ms: field("Billed Duration")? as u64,
            init_ms: field("Init Duration"),
            memory_mib: field("Memory Size")? as u64,
            peak_mib: field("Max Memory Used").unwrap_or(0.0) as u64,
        })
    }

    /// `{"type":"platform.report","record":{"metrics":{"billedDurationMs":13,...}}}`.
    fn of_json(line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line.trim()).ok()?;
        if value["type"] != "platform.report" {
            return None;
        }
        let metrics = &value["record"]["metrics"];
        Some(Self {
            billed_ms: metrics["billedDurationMs"].as_f64()? as u64,
            init_ms: metrics["initDurationMs"].as_f64(),
            memory_mib: metrics["memorySizeMB"].as_f64()? as u64,
            peak_mib: metrics["maxMemoryUsedMB"].as_f64().unwrap_or(0.0) as u64,
        })
    }

    pub(super) fn usage(self, requests: Option<Requests>) -> Usage {
        Usage {
            billed_ms: self.billed_ms,
            init_ms: self.init_ms.unwrap_or(0.0) as u64,
            memory_mib: self.memory_mib,
            peak_mib: self.peak_mib,
            requests,
            cold: self.init_ms.is_some(),
        }
    }

    /// Whether all the memory was in use.
    pub(super) fn memory_was_full(&self) -> bool {
        self.peak_mib > 0 && self.peak_mib * 100 >= self.memory_mib * 95
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "START RequestId: 8f5 Version: 7\n{\"message\":\"done\"}\nEND RequestId: 8f5\nREPORT RequestId: 8f5\tDuration: \
        1999.53 ms\tBilled Duration: 2154 ms\tMemory Size: 2048 MB\tMax Memory Used: 301 MB\tInit Duration: 153.71 ms\t\n";
    const JSON: &str = r#"{"time":"2026-11-23T10:00:00.000Z","type":"platform.start","record":{"requestId":"8f5","version":"7"}}
{"time":"2026-11-23T10:00:02.000Z","type":"platform.report","record":{"requestId":"8f5","metrics":{"durationMs":1999.534,"billedDurationMs":2000,"memorySizeMB":2048,"maxMemoryUsedMB":301},"status":"success"}}"#;

    #[test]
    fn both_forms_are_read() {
        let report = Report::of_log(&STANDARD.encode(TEXT));
        let expected = Report { billed_ms: 2154, init_ms: Some(153.71), memory_mib: 2048, peak_mib: 301 };
        assert_eq!(report, Some(expected));
        let report = Report::of_log(&STANDARD.encode(JSON));
        assert_eq!(report, Some(Report { billed_ms: 2000, init_ms: None, ..expected }));
        assert!(expected.usage(None).cold);
    }

    #[test]
    fn a_log_without_one_has_none() {
        for log in
            ["", "REPORT", "REPORT RequestId: 8f5\tDuration: x ms", "{\"type\":\"platform.report\"}", "{\"type\":"]
        {
            assert_eq!(Report::of_log(&STANDARD.encode(log)), None, "{log}");
        }
        assert_eq!(Report::of_log("no base64!"), None);
        // The tail may begin in the middle of a line, or of a letter.
        let mut tail = TEXT.as_bytes().to_vec();
        tail.splice(0..5, [0x9f, 0xbf]);
        assert!(Report::of_log(&STANDARD.encode(tail)).is_some());
    }

    #[test]
    fn full_memory_is_seen() {
        let report = |peak_mib| Report { memory_mib: 2048, peak_mib, ..Report::default() };
        assert!(report(2048).memory_was_full() && report(2000).memory_was_full());
        assert!(!report(1500).memory_was_full() && !report(0).memory_was_full());
    }
}
