//! A lease on an output in a bucket, kept by beats.
//!
//! No clocks of two machines are compared to decide who holds an output. The holder writes only within [`PATIENCE`] of
//! the start of its last good beat, by its own clocks. Another takes over when the beat it sees has stayed the same for
//! [`SILENCE`], by its own; that is longer. A holder that was slow for so long has lost the output for good, even if
//! nobody wants it.
//!
//! Clocks are compared for what is on its way only. Attempts carry a moment after which their worker writes nothing
//! more, and a request that was signed just before it is accepted for [`SIGNATURE`] after. Whoever deletes waits for
//! both, and [`SKEW`] longer, as much as the clocks may differ. What it sends itself may be late, too: so it says that it
//! deletes before it begins, and whoever takes over from it before it has ended waits likewise, even if only to resume.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pipeline::fence::{Clock, Guard, Moment};
use pipeline::lease::{self, Beat, Holder, Leases};
use pipeline::store::Store;
use pipeline::{Error, Result};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// From one beat to the next.
const PERIOD: Duration = Duration::from_secs(5);

/// A holder writes so long after the start of its last good beat.
const PATIENCE: Duration = Duration::from_secs(20);

/// A holder is taken for dead when its beat has not changed for so long. Longer than [`PATIENCE`] by more than two clocks
/// can drift apart in that time.
const SILENCE: Duration = Duration::from_secs(30);

/// How often a beat is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// A signed request is accepted for so long.
const SIGNATURE: Duration = Duration::from_secs(15 * 60);

/// As much as two clocks may differ.
const SKEW: Duration = Duration::from_secs(60);

/// How much further than asked a promise reaches, so that only one of many is a request.
const STEP: Duration = Duration::from_secs(5 * 60);

/// A lease that is held as long as it lives, and its beats are good.
#[derive(Debug)]
pub(crate) struct Lease {
    store: Store,
    number: u64,
    me: Holder,
    clock: Clock,
    pulse: Arc<Pulse>,
    beating: JoinHandle<()>,
    /// Until when attempts may write, as far as that has been made known.
    promised: tokio::sync::Mutex<Option<Moment>>,
}

/// When the last good beat began, by both clocks of this machine: one may stand still while the machine sleeps, the other
/// may be set back.
#[derive(Debug)]
struct Pulse {
    url: String,
    clock: Clock,
    last: Mutex<(Instant, Moment)>,
    lost: watch::Sender<Option<Error>>,
}

impl Pulse {
    fn now(&self) -> (Instant, Moment) {
        (Instant::now(), self.clock.now())
    }

    /// Whether the lease is held; once lost, it is lost for good.
    fn held(&self) -> Result<()> {
        if let Some(lost) = &*self.lost.borrow() {
            return Err(lost.clone());
        }
        let (began, moment) = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if began.elapsed() <= PATIENCE && u128::from(self.clock.now().ms_since(moment)) <= PATIENCE.as_millis() {
            return Ok(());
        }
        Err(self.lose(
            Error::unavailable(format!(
                "{} could not be kept: nothing was heard from its store for {} seconds, so another voxmill may have it",
                self.url,
                PATIENCE.as_secs()
            ))
            .hint("what is done is kept; run the same command again"),
        ))
    }

    fn lose(&self, why: Error) -> Error {
        let mut first = why.clone();
        self.lost.send_modify(|lost| first = lost.get_or_insert(why).clone());
        first
    }

    /// A beat that began then was good.
    fn good(&self, began: (Instant, Moment)) -> Result<()> {
        self.held()?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = began;
        Ok(())
    }
}

/// How the holder before ended.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// There was none, or it said so itself.
    Well,
    /// It has been silent for so long that it can't go on.
    Silent,
}

impl Lease {
    /// Takes the output of `store`: at once where nobody has it, after [`SILENCE`] where somebody had.
    ///
    /// # Errors
    /// Invalid when somebody has it and is alive.
    pub(crate) async fn take(store: &Store, clock: Clock, tell: &(dyn Fn(&str) + Sync)) -> Result<Self> {
        let me = myself();
        loop {
            let before = Leases::list(store).await?.highest;
            let end = if before == 0 { End::Well } else { end_of(store, before, tell).await? };
            let number = before + 1;
            let (lost, _) = watch::channel(None);
            let began = (Instant::now(), clock.now());
            let pulse = Pulse { url: store.url().to_owned(), clock: clock.clone(), last: Mutex::new(began), lost };
            // Whoever was quicker is now the one to look at.
            if !lease::claim(store, number, &me).await? {
                continue;
            }
            let pulse = Arc::new(pulse);
            let beating = tokio::spawn(keep_beating(store.clone(), number, me.token.clone(), Arc::clone(&pulse)));
            let lease = Self {
                store: store.guarded(guard(&pulse)),
                number,
                me: me.clone(),
                clock: clock.clone(),
                pulse,
                beating,
                promised: tokio::sync::Mutex::default(),
            };
            let leases = Leases::list(store).await?;
            // One that was slow between looking and claiming may have come by a number that was used and forgotten.
            if leases.highest > number {
                continue;
            }
            if end == End::Silent {
                // What it has sent itself may still be on its way.
                lease::allow(&lease.store, number, clock.now()).await?;
            }
            for number in leases.lower {
                lease::forget(&lease.store, number).await?;
            }
            if !leases.deleting.is_empty() {
                lease.quiesce(tell).await?;
            }
            lease.pulse.held()?;
            return Ok(lease);
        }
    }

    async fn pulse_for(&self, duration: Duration) -> Result<()> {
        tokio::select! {
            lost = self.lost() => Err(lost),
            () = sleep(duration) => self.pulse.held(),
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn guard(&self) -> Guard {
        guard(&self.pulse)
    }

    /// Waits until the lease is lost, and tells how.
    pub(crate) async fn lost(&self) -> Error {
        let mut lost = self.pulse.lost.subscribe();
        match lost.wait_for(Option::is_some).await.map(|lost| lost.clone()) {
            Ok(Some(error)) => error,
            // The sender lives as long as this lease.
            _ => std::future::pending().await,
        }
    }

    pub(crate) async fn promise(&self, not_after: Moment) -> Result<()> {
        let mut promised = self.promised.lock().await;
        self.pulse.held()?;
        if promised.is_some_and(|until| not_after <= until) {
            return Ok(());
        }
        let until = not_after.plus_ms(ms(STEP));
        lease::allow(&self.store, self.number, until).await?;
        // In this order: whoever took over before it could see what is allowed is seen here, and the attempt not sent.
        let leases = Leases::list(&self.store).await?;
        if leases.highest > self.number {
            return Err(self.pulse.lose(taken_over(&self.store, leases.highest).await));
        }
        if let Some(earlier) = promised.replace(until) {
            lease::disallow(&self.store, self.number, earlier).await?;
        }
        Ok(())
    }

    /// Carries out `work`, which deletes, when nothing can come in its way any more.
    pub(crate) async fn deleting<T>(
        &self,
        tell: &(dyn Fn(&str) + Sync),
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.quiesce(tell).await?;
        lease::begin_deleting(&self.store, self.number).await?;
        let done = tokio::select! {
            lost = self.lost() => Err(lost),
            done = work => done,
        }?;
        lease::end_deleting(&self.store, self.number).await?;
        Ok(done)
    }

    /// Waits until nothing that anybody sent before can be written any more.
    async fn quiesce(&self, tell: &(dyn Fn(&str) + Sync)) -> Result<()> {
        let leases = Leases::list(&self.store).await?;
        if let Some(last) = leases.last_write() {
            let settled = last.plus_ms(ms(SIGNATURE + SKEW));
            let left = settled.ms_since(self.clock.now());
            if left > 0 {
                let minutes = left.div_ceil(60_000);
                tell(&format!(
                    "waiting {minutes} min before anything is deleted: what an earlier run has sent may be written until then"
                ));
            }
            loop {
                // Asked again and again: a clock that was set moves the end.
                match settled.ms_since(self.clock.now()) {
                    0 => break,
                    left => self.pulse_for(Duration::from_millis(left.min(60_000))).await?,
                }
            }
        }
        for (number, moment) in leases.until {
            lease::disallow(&self.store, number, moment).await?;
        }
        for number in leases.deleting {
            lease::end_deleting(&self.store, number).await?;
        }
        self.pulse.held()
    }

    /// Gives the output back.
    pub(crate) async fn release(self, settled: bool) {
        self.beating.abort();
        if let Err(e) = self.say_the_end(settled).await {
            tracing::warn!("the next run will wait for this one, which could not say that it has ended: {e}");
        }
    }

    async fn say_the_end(&self, settled: bool) -> Result<()> {
        match (settled, *self.promised.lock().await) {
            (true, Some(until)) => lease::disallow(&self.store, self.number, until).await?,
            (true, None) => {}
            // What this process has sent itself may still be on its way, too.
            (false, _) => lease::allow(&self.store, self.number, self.clock.now()).await?,
        }
        let last = Beat { token: self.me.token.clone(), count: u64::MAX, released: true };
        lease::beat(&self.store, self.number, &last).await
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.beating.abort();
    }
}

fn guard(pulse: &Arc<Pulse>) -> Guard {
    let pulse = Arc::clone(pulse);
    Guard::new(move || pulse.held())
}

fn ms(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

/// Beats until the lease is lost.
async fn keep_beating(store: Store, number: u64, token: String, pulse: Arc<Pulse>) {
    for count in 0.. {
        let began = pulse.now();
        let beat = async {
            lease::beat(&store, number, &Beat { token: token.clone(), count, released: false }).await?;
            Ok::<_, Error>(Leases::list(&store).await?.highest)
        };
        // A request that hangs must not keep the next one from being sent.
        let failed = match timeout(PERIOD, beat).await {
            Ok(Ok(highest)) if highest > number => {
                pulse.lose(taken_over(&store, highest).await);
                return;
            }
            Ok(Ok(_)) if pulse.good(began).is_err() => return,
            Ok(Ok(_)) => None,
            Ok(Err(e)) => Some(e.message),
            Err(_) => Some("it took too long".into()),
        };
        if pulse.held().is_err() {
            return;
        }
        if let Some(why) = &failed {
            tracing::warn!("a sign of life could not be left in {}: {why}", store.url());
        }
        sleep(if failed.is_some() { LOOK } else { PERIOD }).await;
    }
}

/// Looks at the beat of the lease `number` until it has changed or has been silent long enough.
///
/// # Errors
/// Invalid when it has changed: its holder lives.
async fn end_of(store: &Store, number: u64, tell: &(dyn Fn(&str) + Sync)) -> Result<End> {
    let first = lease::last_beat(store, number).await?;
    let since = Instant::now();
    let mut told = false;
    loop {
        let seen = lease::last_beat(store, number).await?;
        if seen.as_ref().is_some_and(|beat| beat.released) {
            return Ok(End::Well);
        }
        if seen != first {
            return Err(busy(store, "is working on it", number).await);
        }
        if since.elapsed() > SILENCE {
            return Ok(End::Silent);
        }
        if !told && since.elapsed() > PERIOD + LOOK {
            let (who, seconds) = (who(store, number).await, SILENCE.as_secs());
            tell(&format!("another voxmill ({who}) had this output; waiting {seconds} s to see that it has ended"));
            told = true;
        }
        sleep(LOOK).await;
    }
}

async fn who(store: &Store, number: u64) -> String {
    let holder = lease::holder(store, number).await.ok().flatten();
    holder.map_or_else(|| "a process unknown".into(), |holder| holder.to_string())
}

async fn busy(store: &Store, what: &str, number: u64) -> Error {
    let who = who(store, number).await;
    Error::invalid(format!("{} is busy: another voxmill ({who}) {what}", store.url()))
        .hint("wait for it, or stop it and run the same command again: it resumes")
}

async fn taken_over(store: &Store, number: u64) -> Error {
    busy(store, "took it over", number).await
}

/// This process.
fn myself() -> Holder {
    use std::hash::{BuildHasher, RandomState};
    // Each state is keyed by chance, so what it makes of nothing is chance, too.
    let draw = || RandomState::new().hash_one(());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
    Holder {
        host: host.filter(|name| !name.is_empty()).unwrap_or_else(|| "a machine without a name".into()),
        process: std::process::id(),
        token: format!("{:016x}{:016x}", draw(), draw()),
    }
}

#[cfg(test)]
mod tests;
