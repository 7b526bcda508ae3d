//! What keeps a late writer out: an attempt may write until a moment that was settled when it was sent, and asks before
//! each write. Waiting until that moment has passed, and a signed request's life with it, makes sure that nothing of the
//! attempt is still on its way. A coordinator's own writes are let through as long as it holds its output.
//! `docs/reliability.md` says who waits when.
//!
//! Nothing here reads a clock: whoever runs a worker hands one in.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Milliseconds since 1970, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(pub u64);

impl Moment {
    /// Milliseconds from `earlier` to this moment; none when it is the earlier one.
    pub fn ms_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment `ms` milliseconds later.
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

/// Tells the moment.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Moment + Send + Sync>);

impl Clock {
    /// A clock that asks `now`.
    pub fn new(now: impl Fn() -> Moment + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The moment.
    pub fn now(&self) -> Moment {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({:?})", self.now())
    }
}

/// What whoever holds an output asks before each write of its own: whether it still holds it.
#[derive(Clone)]
pub struct Guard(Arc<dyn Fn() -> Result<()> + Send + Sync>);

impl Guard {
    /// A guard that lets through what `held` does.
    pub fn new(held: impl Fn() -> Result<()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(held))
    }

    /// A guard that lets through what both do.
    pub(crate) fn and(self, other: Guard) -> Self {
        Self::new(move || self.check().and_then(|()| other.check()))
    }

    /// Asked before each write.
    ///
    /// # Errors
    /// Whatever the holder says when it holds the output no longer.
    pub fn check(&self) -> Result<()> {
        (self.0)()
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guard({})", if self.check().is_ok() { "open" } else { "closed" })
    }
}

/// Lets writes through until a moment.
#[derive(Clone, Debug)]
pub struct Fence {
    /// Tells the moment.
    pub clock: Clock,
    /// Nothing is written after it.
    pub not_after: Moment,
}

impl Fence {
    /// Asked before each write.
    ///
    /// # Errors
    /// Unavailable when it is too late: whoever sent the attempt may have sent another.
    pub fn check(&self) -> Result<()> {
        if self.clock.now() <= self.not_after {
            return Ok(());
        }
        Err(Error::unavailable("the time of this attempt is over, so it writes nothing more"))
    }
}
