//! One coordinator at an output. On a disk a lock says so, in a bucket a lease; both are held while a run or a
//! `clean` works, and everything these write goes through [`Hold::guard`].
//!
//! The difference is what is known of a process that is gone. On a disk the system frees its lock at once, and nothing
//! of it can still be on its way. In a bucket it is only silent: the next one waits until that must mean the end, and
//! before it deletes anything until whatever had been sent is settled ([`Hold::deleting`]).

mod lease;
mod lock;

use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use pipeline::Result;
use pipeline::fence::{Clock, Moment};
use pipeline::store::Store;

use lease::Lease;
use lock::Lock;

/// An output that is held.
#[derive(Debug)]
pub struct Hold {
    how: How,
    /// Attempts that were promised and of which it is not known that they are over.
    open: AtomicU64,
}

/// An attempt that may write until the moment that was made known for it. Dropped, it may be on its way still.
#[derive(Debug)]
pub struct Promised<'a>(&'a Hold);

impl Promised<'_> {
    /// The attempt is over: its worker has answered with success, or never begun.
    pub fn settled(self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// By what it is held.
#[derive(Debug)]
enum How {
    /// On a disk.
    Disk(Lock),
    /// In a bucket.
    Bucket(Box<Lease>),
    /// By nothing: nobody else knows of it.
    Alone(u64),
}

impl Hold {
    /// Takes the output that `store` is the root of. `tell` hears what is waited for.
    ///
    /// # Errors
    /// Invalid when another process holds it, or nothing may be written there.
    pub async fn take(store: &Store, clock: Clock, tell: &(dyn Fn(&str) + Sync)) -> Result<Self> {
        if store.on_disk() {
            return Ok(Self::by(How::Disk(Lock::take(Path::new(store.url()))?)));
        }
        Ok(Self::by(How::Bucket(Box::new(Lease::take(store, clock, tell).await?))))
    }

    fn by(how: How) -> Self {
        Self { how, open: AtomicU64::new(0) }
    }

    /// An output that nobody else knows of, as in a test, under this number.
    pub fn alone(number: u64) -> Self {
        Self::by(How::Alone(number))
    }

    /// The number of the lease, which is higher than that of whoever held the output before; 1 on a disk.
    pub fn number(&self) -> u64 {
        match &self.how {
            How::Disk(_) => 1,
            How::Bucket(lease) => lease.number(),
            How::Alone(number) => *number,
        }
    }

    /// The same store, which writes and deletes only as long as the output is held.
    pub fn guard(&self, store: &Store) -> Store {
        match &self.how {
            How::Disk(_) | How::Alone(_) => store.clone(),
            How::Bucket(lease) => store.guarded(lease.guard()),
        }
    }

    /// Carries `work` to its end, or stops it when the output is held no longer.
    ///
    /// # Errors
    /// What the work failed with, or how the output was lost.
    pub async fn while_held<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        match &self.how {
            How::Disk(_) | How::Alone(_) => work.await,
            How::Bucket(lease) => tokio::select! {
                lost = lease.lost() => Err(lost),
                done = work => done,
            },
        }
    }

    /// Makes it known that attempts may write until `not_after`. To be called before an attempt with that limit is sent;
    /// most calls cost no request, since what is made known reaches further.
    ///
    /// # Errors
    /// How the output was lost, or what the request failed with: the attempt must not be sent.
    pub async fn promise(&self, not_after: Moment) -> Result<Promised<'_>> {
        match &self.how {
            How::Disk(_) | How::Alone(_) => {}
            How::Bucket(lease) => lease.promise(not_after).await?,
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        Ok(Promised(self))
    }

    /// Carries out `work`, which deletes or takes back what a late write could spoil: in a bucket when nothing that
    /// anybody sent before can be written any more, which `tell` hears of when it takes long. To be called before
    /// attempts of one's own are sent.
    ///
    /// # Errors
    /// What the work failed with, how the output was lost meanwhile, or what a request failed with.
    pub async fn deleting<T>(&self, tell: &(dyn Fn(&str) + Sync), work: impl Future<Output = Result<T>>) -> Result<T> {
        match &self.how {
            How::Disk(_) | How::Alone(_) => work.await,
            How::Bucket(lease) => lease.deleting(tell, work).await,
        }
    }

    /// Gives the output back, so that nobody need wait for it. `settled` says that every request of this process has been
    /// answered with success, so that nothing of it is still on its way.
    pub async fn release(self, settled: bool) {
        let settled = settled && self.open.load(Ordering::Relaxed) == 0;
        match self.how {
            How::Disk(lock) => drop(lock),
            How::Alone(_) => {}
            How::Bucket(lease) => lease.release(settled).await,
        }
    }
}

#[cfg(test)]
impl Hold {
    /// Attempts of which something may still be on its way.
    pub(crate) fn unsettled(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use object_store::memory::InMemory;
    use pipeline::lease::Leases;

    use super::*;

    /// Whether the next one must wait, when of these attempts those were answered.
    async fn is_settled(attempts: usize, answered: usize, well: bool) -> bool {
        let store = Store::over(Arc::new(InMemory::new()), "memory");
        let clock = Clock::new(|| Moment(1_000_000));
        let hold = Hold::take(&store, clock, &|_| {}).await.unwrap();
        for i in 0..attempts {
            let promised = hold.promise(Moment(2_000_000)).await.unwrap();
            if i < answered {
                promised.settled();
            }
        }
        hold.release(well).await;
        Leases::list(&store).await.unwrap().last_write().is_none()
    }

    #[tokio::test(start_paused = true)]
    async fn an_output_is_settled_when_every_attempt_is() {
        assert!(is_settled(0, 0, true).await);
        assert!(is_settled(5, 5, true).await);
        assert!(!is_settled(5, 4, true).await);
        assert!(!is_settled(5, 5, false).await);
    }
}
