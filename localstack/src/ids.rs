//! Names and times as AWS writes them: request ids, trace ids, log streams, timestamps.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::dice;

/// The account every function here belongs to.
pub(crate) const ACCOUNT: &str = "000000000000";

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// Two numbers that no other call of this process, nor one started at another time, is likely to get.
fn fresh() -> (u64, u64) {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    static START: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    let start = *START.get_or_init(|| {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
        nanos ^ (u64::from(std::process::id()) << 40)
    });
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    (dice::at(start, 0, call), dice::at(start, 1, call))
}

/// A random UUID (version 4), the form of a request id.
pub(crate) fn uuid() -> String {
    let (a, b) = fresh();
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xfff,
        0x8000 | ((b >> 48) & 0x3fff),
        b & 0xffff_ffff_ffff
    )
}

/// A trace id as in `X-Amzn-Trace-Id`: the time in seconds and 96 random bits.
pub(crate) fn trace() -> String {
    let (a, b) = fresh();
    format!("Root=1-{:08x}-{:08x}{b:016x};Parent={a:016x};Sampled=0", now_ms() / 1000, a >> 32)
}

/// The end of a log stream's name: 32 hexadecimal digits.
pub(crate) fn stream() -> String {
    let (a, b) = fresh();
    format!("{a:016x}{b:016x}")
}

/// Year, month and day of a number of days since 1970 (the civil calendar, by Howard Hinnant's arithmetic).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

/// A time as AWS writes it in logs: `2026-11-23T08:04:37.123Z`.
pub(crate) fn iso(ms: u64) -> String {
    let (year, month, day) = civil((ms / 86_400_000) as i64);
    let (s, ms) = (ms / 1000 % 86_400, ms % 1000);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{ms:03}Z", s / 3600, s / 60 % 60, s % 60)
}

/// The day of a time as log streams are named after it: `2026/11/23`.
pub(crate) fn day(ms: u64) -> String {
    let (year, month, day) = civil((ms / 86_400_000) as i64);
    format!("{year:04}/{month:02}/{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(iso(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(iso(1_795_421_077_123), "2026-11-23T08:04:37.123Z");
        assert_eq!(day(1_795_421_077_123), "2026/11/23");
    }

    #[test]
    fn ids_differ_and_have_their_form() {
        let ids: std::collections::HashSet<String> = (0..1000).map(|_| uuid()).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            let parts: Vec<usize> = id.split('-').map(str::len).collect();
            assert_eq!(parts, [8, 4, 4, 4, 12], "{id}");
            assert_eq!(&id[14..15], "4", "{id}");
        }
        assert_eq!(stream().len(), 32);
        assert!(trace().starts_with("Root=1-"));
    }
}
