//! Who holds an output in a bucket, as objects: leases, beats, and the moments until which attempts may write.
//!
//! A **lease** has a number and is created, never replaced; the highest is the one that counts. Its holder replaces the
//! **beat** beside it every few seconds. Before it sends attempts, it leaves an **until** that says how long they may
//! write. This module reads and writes these objects. Who waits how long for what is the coordinator's business, since
//! nothing here knows the time; `docs/reliability.md` has the whole protocol.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::fence::Moment;
use crate::layout::{self, LeaseKey};
use crate::record;
use crate::store::Store;
use crate::{Error, Result};

/// Who took a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Name of its machine.
    pub host: String,
    /// Number of its process there.
    pub process: u32,
    /// Drawn by chance, so that no two are the same.
    pub token: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {}", self.process, self.host)
    }
}

/// The sign of life of a lease's holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Token of the holder.
    pub token: String,
    /// How many there have been: what differs from one to the next.
    pub count: u64,
    /// Set by the last of all, when the holder has ended well and nobody need wait for it.
    pub released: bool,
}

/// What the leases of an output say, as one listing shows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    /// The highest number; 0 when there is no lease.
    pub highest: u64,
    /// The numbers below it that have left something, ascending.
    pub lower: Vec<u64>,
    /// Until when attempts may write, with the number of the lease they were sent under.
    pub until: Vec<(u64, Moment)>,
    /// The numbers of leases whose holder has begun to delete, and not said that it has ended.
    pub deleting: Vec<u64>,
}

impl Leases {
    /// Lists them.
    pub async fn list(store: &Store) -> Result<Self> {
        let (mut numbers, mut until, mut deleting) = (Vec::new(), Vec::new(), Vec::new());
        for entry in store.list(layout::LEASES).await? {
            match layout::lease_key(&entry.key) {
                // A beat alone was sent by one that was deposed, and came late.
                Some(LeaseKey::Lease(number)) => numbers.push(number),
                Some(LeaseKey::Until(number, ms)) => until.push((number, Moment(ms))),
                Some(LeaseKey::Deletes(number)) => deleting.push(number),
                Some(LeaseKey::Beat(_)) | None => {}
            }
        }
        numbers.sort_unstable();
        Ok(Self { highest: numbers.pop().unwrap_or(0), lower: numbers, until, deleting })
    }

    /// The last moment at which an attempt may write, whoever sent it.
    pub fn last_write(&self) -> Option<Moment> {
        self.until.iter().map(|(_, moment)| *moment).max()
    }
}

/// Creates the lease `number`; false when another has it. It is ours, too, when the answer to our own request was lost:
/// what is there is read back.
///
/// # Errors
/// What the request failed with, when nothing can be read back either: it may still come true later, and be a lease
/// that nobody holds.
pub async fn claim(store: &Store, number: u64, holder: &Holder) -> Result<bool> {
    match store.put_new(&layout::lease(number), record::json(holder)?).await {
        Ok(true) => Ok(true),
        Ok(false) => Ok(self::holder(store, number).await?.as_ref() == Some(holder)),
        Err(lost) => match self::holder(store, number).await {
            Ok(Some(found)) => Ok(found == *holder),
            Ok(None) | Err(_) => Err(lost),
        },
    }
}

/// Who took the lease `number`, if anybody did.
pub async fn holder(store: &Store, number: u64) -> Result<Option<Holder>> {
    read(store, &layout::lease(number)).await
}

/// The last beat of the lease `number`, if there was one.
pub async fn last_beat(store: &Store, number: u64) -> Result<Option<Beat>> {
    read(store, &layout::lease_beat(number)).await
}

/// Replaces the beat of the lease `number`.
pub async fn beat(store: &Store, number: u64, beat: &Beat) -> Result<()> {
    store.put(&layout::lease_beat(number), record::json(beat)?).await
}

/// Says that attempts sent under the lease `number` may write until `last`.
pub async fn allow(store: &Store, number: u64, last: Moment) -> Result<()> {
    store.put(&layout::lease_until(number, last.0), Bytes::from_static(b"{}")).await
}

/// Takes back what [`allow`] said, when nothing that was sent is on its way any more, or a later moment is allowed.
pub async fn disallow(store: &Store, number: u64, last: Moment) -> Result<()> {
    store.delete(&layout::lease_until(number, last.0)).await
}

/// Says that the holder of the lease `number` deletes from now on.
pub async fn begin_deleting(store: &Store, number: u64) -> Result<()> {
    store.put(&layout::lease_deletes(number), Bytes::from_static(b"{}")).await
}

/// Says that what the holder of the lease `number` began to delete is gone, and nothing of it on its way any more.
pub async fn end_deleting(store: &Store, number: u64) -> Result<()> {
    store.delete(&layout::lease_deletes(number)).await
}

/// Removes the lease `number`, which is not the highest, and its beat; not what it allowed.
pub async fn forget(store: &Store, number: u64) -> Result<()> {
    store.delete(&layout::lease_beat(number)).await?;
    store.delete(&layout::lease(number)).await
}

async fn read<T: for<'a> Deserialize<'a>>(store: &Store, key: &str) -> Result<Option<T>> {
    let Some(object) = store.get(key).await? else { return Ok(None) };
    record::parse(store, key, &object.bytes).map(Some).map_err(|e| Error { hint: None, ..e })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;

    fn one(token: &str) -> Holder {
        Holder { host: "lab7".into(), process: 12, token: token.into() }
    }

    #[tokio::test]
    async fn a_lease_has_one_holder() {
        let store = Store::over(Arc::new(InMemory::new()), "memory://lab");
        assert_eq!(Leases::list(&store).await.unwrap(), Leases::default());
        assert!(claim(&store, 1, &one("a")).await.unwrap());
        assert!(claim(&store, 1, &one("a")).await.unwrap(), "sent twice, it is the same claim");
        assert!(!claim(&store, 1, &one("b")).await.unwrap());
        assert_eq!(holder(&store, 1).await.unwrap().unwrap().to_string(), "process 12 on lab7");
    }

    #[tokio::test]
    async fn a_listing_shows_numbers_and_moments() {
        let store = Store::over(Arc::new(InMemory::new()), "memory://lab");
        for number in [9, 10, 2] {
            claim(&store, number, &one("a")).await.unwrap();
        }
        beat(&store, 11, &Beat { token: "late".into(), count: 7, released: false }).await.unwrap();
        allow(&store, 2, Moment(1_760_000_000_000)).await.unwrap();
        allow(&store, 9, Moment(999)).await.unwrap();
        begin_deleting(&store, 9).await.unwrap();
        store.put(".voxmill/leases/notes.txt", "somebody's".into()).await.unwrap();
        let leases = Leases::list(&store).await.unwrap();
        assert_eq!((leases.highest, &leases.lower[..]), (10, &[2, 9][..]));
        assert_eq!(leases.last_write(), Some(Moment(1_760_000_000_000)));
        assert_eq!(leases.deleting, [9]);
        end_deleting(&store, 9).await.unwrap();
        disallow(&store, 2, Moment(1_760_000_000_000)).await.unwrap();
        forget(&store, 2).await.unwrap();
        let leases = Leases::list(&store).await.unwrap();
        assert_eq!((leases.lower, leases.until, leases.deleting), (vec![9], vec![(9, Moment(999))], vec![]));
    }
}
