//! Trouble on demand: what is to go wrong, how often, and what has gone wrong so far. Everything is drawn from one seed,
//! so that the nth request of a kind meets the same fate each time.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::dice;

/// When one kind of fault strikes: at the next few, and at one in so many by chance.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Rule {
    /// How many of the next it strikes, all of them.
    pub(crate) next: u64,
    /// Of the others, one in so many; 0 is none.
    pub(crate) one_in: u64,
    /// How long an answer is held back (`slow`).
    pub(crate) ms: u64,
    /// Within which time of the start an instance is killed (`kill`); without it, within the mean time of what ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) within_ms: Option<u64>,
    /// The reason that is given (`throttle`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

/// What is to go wrong.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// What chance is drawn from.
    pub(crate) seed: u64,
    /// 429 before anything ran, whatever the concurrency.
    pub(crate) throttle: Rule,
    /// 500 ServiceException before anything ran.
    pub(crate) server_error: Rule,
    /// The connection ends before anything ran.
    pub(crate) drop_before: Rule,
    /// The connection ends after the function has run: its reply is lost.
    pub(crate) drop_after: Rule,
    /// 502 after the function has run, with a body that is no JSON.
    pub(crate) bad_gateway: Rule,
    /// The answer comes later than the function gave it.
    pub(crate) slow: Rule,
    /// The instance is killed at some moment of the invocation.
    pub(crate) kill: Rule,
    /// At most so many invocations at once, if that is fewer than the function may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) concurrency: Option<usize>,
    /// Operations the caller has no permission for, such as `GetAccountSettings`.
    pub(crate) deny: Vec<String>,
}

/// A kind of fault; the number is its sequence of dice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Throttle = 1,
    ServerError,
    DropBefore,
    DropAfter,
    BadGateway,
    Slow,
    Kill,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Throttle => "throttle",
            Kind::ServerError => "server_error",
            Kind::DropBefore => "drop_before",
            Kind::DropAfter => "drop_after",
            Kind::BadGateway => "bad_gateway",
            Kind::Slow => "slow",
            Kind::Kill => "kill",
        }
    }

    fn rule(self, config: &mut Config) -> &mut Rule {
        match self {
            Kind::Throttle => &mut config.throttle,
            Kind::ServerError => &mut config.server_error,
            Kind::DropBefore => &mut config.drop_before,
            Kind::DropAfter => &mut config.drop_after,
            Kind::BadGateway => &mut config.bad_gateway,
            Kind::Slow => &mut config.slow,
            Kind::Kill => &mut config.kill,
        }
    }
}

/// What happens to an answer after the function has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It arrives.
    Arrives,
    /// It arrives late.
    Late(Duration),
    /// 502 comes in its place.
    BadGateway,
    /// Nothing comes.
    Lost,
}

impl Fate {
    /// The name in the log of what ran.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Fate::Arrives => None,
            Fate::Late(_) => Some("slow"),
            Fate::BadGateway => Some("bad_gateway"),
            Fate::Lost => Some("drop_after"),
        }
    }
}

/// The faults in force.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    config: Config,
    /// By kind: how many were drawn, and how many of them struck.
    drawn: BTreeMap<&'static str, (u64, u64)>,
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts other faults in the place of all there are, and begins their sequences anew.
    pub(crate) fn set(&self, config: Config) {
        *self.lock() = Inner { config, drawn: BTreeMap::new() };
    }

    /// The faults as they are now, and how often each struck.
    pub(crate) fn now(&self) -> (Config, BTreeMap<&'static str, u64>) {
        let inner = self.lock();
        (inner.config.clone(), inner.drawn.iter().map(|(name, (_, struck))| (*name, *struck)).collect())
    }

    /// Draws: the rule, where it strikes, and a number from 0 to below 1 for what it leaves to chance.
    fn draw(&self, kind: Kind) -> Option<(Rule, f64)> {
        let mut inner = self.lock();
        let Inner { config, drawn } = &mut *inner;
        let seed = config.seed;
        let counts = drawn.entry(kind.name()).or_default();
        let place = counts.0;
        counts.0 += 1;
        let rule = kind.rule(config);
        let strikes = if rule.next > 0 {
            rule.next -= 1;
            true
        } else {
            rule.one_in > 0 && dice::at(seed, kind as u64, place).is_multiple_of(rule.one_in)
        };
        strikes.then(|| {
            counts.1 += 1;
            (rule.clone(), dice::unit(seed, 100 + kind as u64, place))
        })
    }

    /// Whether a fault without particulars strikes now.
    pub(crate) fn strikes(&self, kind: Kind) -> bool {
        self.draw(kind).is_some()
    }

    /// The reason of a throttle that is to be given now.
    pub(crate) fn throttles(&self) -> Option<String> {
        let (rule, _) = self.draw(Kind::Throttle)?;
        Some(rule.reason.unwrap_or_else(|| "CallerRateLimitExceeded".to_owned()))
    }

    /// How long after its start an instance is killed, if it is; `mean` is how long invocations take.
    pub(crate) fn kills(&self, mean: Duration) -> Option<Duration> {
        let (rule, chance) = self.draw(Kind::Kill)?;
        Some(rule.within_ms.map_or(mean, Duration::from_millis).mul_f64(chance))
    }

    /// What becomes of the next answer.
    pub(crate) fn fate(&self) -> Fate {
        // All three are drawn each time, so that one doesn't move another's sequence.
        let (lost, bad, slow) = (self.draw(Kind::DropAfter), self.draw(Kind::BadGateway), self.draw(Kind::Slow));
        match (lost, bad, slow) {
            (Some(_), _, _) => Fate::Lost,
            (_, Some(_), _) => Fate::BadGateway,
            (_, _, Some((rule, _))) => Fate::Late(Duration::from_millis(rule.ms)),
            _ => Fate::Arrives,
        }
    }

    /// How many invocations may run at once, if the faults say.
    pub(crate) fn concurrency(&self) -> Option<usize> {
        self.lock().config.concurrency
    }

    /// Whether the caller may not do this.
    pub(crate) fn denies(&self, action: &str) -> bool {
        self.lock().config.deny.iter().any(|name| name == action)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn drawn(config: &str, draws: usize) -> Vec<bool> {
        let faults = Faults::default();
        faults.set(serde_json::from_str(config).unwrap());
        (0..draws).map(|_| faults.strikes(Kind::BadGateway)).collect()
    }

    #[test]
    fn the_next_few_are_struck_then_one_in_so_many() {
        let all = drawn(r#"{"seed": 3, "bad_gateway": {"next": 2, "one_in": 10}}"#, 2002);
        assert_eq!(all[..2], [true, true]);
        let struck = all[2..].iter().filter(|s| **s).count();
        assert!((140..260).contains(&struck), "{struck}");
        assert_eq!(all, drawn(r#"{"seed": 3, "bad_gateway": {"next": 2, "one_in": 10}}"#, 2002), "the seed decides");
        assert_ne!(all, drawn(r#"{"seed": 4, "bad_gateway": {"next": 2, "one_in": 10}}"#, 2002));
    }

    #[test]
    fn a_word_that_is_none_is_refused() {
        assert!(serde_json::from_str::<Config>(r#"{"bad_gatway": {"next": 2}}"#).is_err());
        assert!(serde_json::from_str::<Config>(r#"{"kill": {"on_in": 2}}"#).is_err());
    }

    #[test]
    fn what_struck_is_counted_and_fates_have_an_order() {
        let faults = Faults::default();
        faults.set(
            serde_json::from_str(
                r#"{"slow": {"next": 3, "ms": 5}, "bad_gateway": {"next": 2}, "drop_after": {"next": 1}}"#,
            )
            .unwrap(),
        );
        let fates: Vec<Fate> = (0..4).map(|_| faults.fate()).collect();
        assert_eq!(fates, [Fate::Lost, Fate::BadGateway, Fate::Late(Duration::from_millis(5)), Fate::Arrives]);
        let (config, struck) = faults.now();
        assert_eq!(config.slow.next, 0);
        assert_eq!(struck["slow"], 3);
        assert_eq!(struck["drop_after"], 1);
    }

    #[test]
    fn a_kill_falls_within_its_time() {
        let faults = Faults::default();
        faults.set(serde_json::from_str(r#"{"kill": {"one_in": 1, "within_ms": 50}}"#).unwrap());
        for _ in 0..100 {
            assert!(faults.kills(Duration::from_secs(9)).unwrap() < Duration::from_millis(50));
        }
        assert!(!faults.denies("GetAccountSettings"));
    }
}
