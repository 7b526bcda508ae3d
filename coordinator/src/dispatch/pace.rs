//! When an attempt has taken so long that another is worth sending: by how long the others of its stage took, and by
//! the plan as long as none has ended.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long units of a stage take.
#[derive(Debug)]
pub(super) struct Pace {
    /// Seconds a unit, by the plan.
    expected: f64,
    /// Seconds a unit, of the last segments that ended.
    found: Mutex<VecDeque<f64>>,
}

/// Segments that are remembered.
const FOUND_MOST: usize = 255;
/// Segments that must have ended before they say more than the plan.
const FOUND_LEAST: usize = 3;
/// So many times what was expected by the plan, which knows nothing of the machine, is slow.
const TIMES_EXPECTED: f64 = 4.0;
/// So many times the median is slow.
const TIMES_MEDIAN: f64 = 3.0;
/// Nothing is slow before this.
const LEAST: Duration = Duration::from_secs(5);

impl Pace {
    /// Of a stage whose units take `expected` seconds each by the plan.
    pub(super) fn new(expected: f64) -> Self {
        Self { expected, found: Mutex::default() }
    }

    /// A segment of so many units has ended, that long after a worker began it.
    pub(super) fn ended(&self, units: u64, took: Duration) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() == FOUND_MOST {
            found.pop_front();
        }
        found.push_back(took.as_secs_f64() / units.max(1) as f64);
    }

    /// How long to wait for so many units before another attempt is sent.
    pub(super) fn patience(&self, units: u64) -> Duration {
        let mut found: Vec<f64> = self.found.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        let seconds = if found.len() < FOUND_LEAST {
            TIMES_EXPECTED * self.expected
        } else {
            found.sort_by(f64::total_cmp);
            TIMES_MEDIAN * found[found.len() / 2]
        };
        Duration::from_secs_f64((seconds * units.max(1) as f64).min(1e9)).max(LEAST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_the_plan_first_then_by_what_was_found() {
        let pace = Pace::new(3.0);
        assert_eq!(pace.patience(10), Duration::from_secs(120));
        for seconds in [40, 10, 20] {
            pace.ended(10, Duration::from_secs(seconds));
        }
        assert_eq!(pace.patience(10), Duration::from_secs(60));
        assert_eq!(pace.patience(5), Duration::from_secs(30));
        for _ in 0..300 {
            pace.ended(10, Duration::from_millis(10));
        }
        assert_eq!(pace.patience(10), LEAST);
    }
}
