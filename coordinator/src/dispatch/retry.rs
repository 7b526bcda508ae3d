//! Which errors are tried again, how often, and after which pause: one table, for tasks and for the coordinator's own
//! questions to the store.

use std::time::Duration;

use pipeline::{Error, Kind, Result};

use crate::dice::Dice;
use crate::runtime;

/// How an error is tried again.
struct Rule {
    /// Tries in all that may end with it.
    tries: u32,
    /// Before the second; each pause after it is [`GROWTH`] times as long.
    pause: Duration,
    /// No pause is longer.
    longest: Duration,
}

/// Each pause is so many times as long as the one before.
const GROWTH: u32 = 3;

const THROTTLED: Rule = Rule { tries: 12, pause: Duration::from_millis(500), longest: Duration::from_secs(30) };
const UNAVAILABLE: Rule = Rule { tries: 4, pause: Duration::from_millis(200), longest: Duration::from_secs(20) };
const INTERNAL: Rule = Rule { tries: 2, ..UNAVAILABLE };

/// The tries that have failed, by how they did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tries {
    throttled: u32,
    unavailable: u32,
    internal: u32,
}

impl Tries {
    /// Counts a failed try. Gives the pause before the next, or none when there is to be none.
    pub(super) fn again(&mut self, error: &Error, jitter: &Jitter) -> Option<Duration> {
        let (rule, failed) = match error.kind {
            // Too much at once passes when less is asked for, which it is by then.
            Kind::Unavailable if error.throttled.is_some() => (THROTTLED, &mut self.throttled),
            Kind::Unavailable => (UNAVAILABLE, &mut self.unavailable),
            Kind::Internal => (INTERNAL, &mut self.internal),
            Kind::Invalid | Kind::Data => return None,
        };
        *failed += 1;
        if *failed >= rule.tries {
            return None;
        }
        let pause = rule.pause.saturating_mul(GROWTH.saturating_pow(*failed - 1)).min(rule.longest);
        Some(pause.mul_f64(jitter.factor()))
    }
}

/// Asks something, again where that may help.
pub(super) async fn patiently<T, F: Future<Output = Result<T>>>(
    jitter: &Jitter,
    question: impl Fn() -> F,
) -> Result<T> {
    let mut tries = Tries::default();
    loop {
        let error = match question().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let Some(pause) = tries.again(&error, jitter) else { return Err(error) };
        runtime::sleep(pause).await;
    }
}

/// Whether it could help to try again at all.
pub(super) fn may_pass(error: &Error) -> bool {
    matches!(error.kind, Kind::Unavailable | Kind::Internal)
}

/// Spreads pauses, so that what failed at once does not come back at once. From a seed, so that a test can be replayed.
#[derive(Debug)]
pub(super) struct Jitter(Dice);

impl Jitter {
    pub(super) fn new(seed: u64) -> Self {
        Self(Dice::new(seed))
    }

    /// From a half to one and a half.
    fn factor(&self) -> f64 {
        0.5 + self.0.unit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pauses until an error is final.
    fn pauses(error: &Error, seed: u64) -> Vec<f64> {
        let (mut tries, jitter) = (Tries::default(), Jitter::new(seed));
        std::iter::from_fn(|| tries.again(error, &jitter)).map(|pause| pause.as_secs_f64()).collect()
    }

    #[test]
    fn pauses_grow_and_are_spread() {
        for seed in 0..50 {
            let found = pauses(&Error::unavailable("away"), seed);
            assert_eq!(found.len(), 3);
            for (pause, middle) in found.iter().zip([0.2, 0.6, 1.8]) {
                assert!((middle * 0.5..middle * 1.5).contains(pause), "seed {seed}: {found:?}");
            }
            assert_eq!(found, pauses(&Error::unavailable("away"), seed));
            assert!(pauses(&Error::throttled("slow down"), seed).iter().all(|pause| *pause <= 45.0));
        }
        assert_ne!(pauses(&Error::unavailable("away"), 1), pauses(&Error::unavailable("away"), 2));
        assert_eq!(pauses(&Error::throttled("slow down"), 1).len(), 11);
        assert_eq!(pauses(&Error::internal("broken"), 1).len(), 1);
        assert_eq!(pauses(&Error::invalid("no"), 1).len() + pauses(&Error::data("damaged"), 1).len(), 0);
    }

    #[test]
    fn being_throttled_leaves_the_other_tries() {
        let (mut tries, jitter) = (Tries::default(), Jitter::new(3));
        for _ in 0..11 {
            assert!(tries.again(&Error::throttled("slow down"), &jitter).is_some());
        }
        for _ in 0..3 {
            assert!(tries.again(&Error::unavailable("away"), &jitter).is_some());
        }
        assert!(tries.again(&Error::unavailable("away"), &jitter).is_none());
    }
}
