//! What a run relies on, tried once at its start: a store that can't do it is refused rather than trusted, because what
//! it breaks would be seen much later, if at all.
//!
//! It finds a store that never does what it should. One that does so now and then is beyond any probe.

use bytes::Bytes;

use super::Store;
use crate::{Error, Kind, Result, layout};

/// What is created first, and must stay.
const FIRST: &[u8] = b"created by the first";
/// What must not replace it.
const SECOND: &[u8] = b"created by the second";
/// What replaces it; longer than what was there.
const THIRD: &[u8] = b"0123456789, put in place of what was created";

impl Store {
    /// Tries on one small object what runs rely on: creating what is not there and only that, reading what was written
    /// last, also in parts, listing, deleting. A dozen requests; nothing is left.
    ///
    /// # Errors
    /// Invalid when the store lacks an ability, which the message names; else whatever a request failed with.
    pub async fn probe(&self) -> Result<()> {
        let key = layout::PROBE_OBJECT;
        // One that was killed may have left its own.
        self.delete(key).await?;
        self.must("read what is not there as nothing", self.get(key).await, |found| found.is_none())?;

        let create = "create an object only where there is none";
        // A create that was sent twice, since the first answer was lost, finds what it has made itself.
        self.must(create, self.put_new(key, Bytes::from_static(FIRST)).await, |_| true)?;
        self.must(create, self.put_new(key, Bytes::from_static(SECOND)).await, |created| !created)?;
        self.must(create, self.whole(key).await, |bytes| bytes == FIRST)?;

        self.put(key, Bytes::from_static(THIRD)).await?;
        self.must("read what was written last", self.whole(key).await, |bytes| bytes == THIRD)?;

        let ranges = "read a range of an object";
        let end = THIRD.len() as u64;
        for (range, expected) in [(3..7, &THIRD[3..7]), (end - 4..end + 9, &THIRD[THIRD.len() - 4..])] {
            let read = self.get_range(key, range).await;
            self.must(ranges, read, |read| {
                read.as_ref().is_some_and(|read| read.bytes == expected && read.size == end)
            })?;
        }
        let beyond = self.get_range(key, end + 5..end + 9).await;
        self.must("say that a range lies beyond the end of an object", beyond, |read| {
            read.as_ref().is_some_and(|read| read.bytes.is_empty() && read.size == end)
        })?;
        for (n, expected) in [(5, &THIRD[THIRD.len() - 5..]), (end + 9, THIRD)] {
            let read = self.get_suffix(key, n).await;
            self.must("read the end of an object", read, |read| {
                read.as_ref().is_some_and(|read| read.bytes == expected && read.size == end)
            })?;
        }

        let listed = self.list(layout::PROBE).await;
        self.must("list what is there", listed, |found| {
            found.iter().any(|entry| entry.key == key && entry.size == end)
        })?;
        self.delete(key).await?;
        self.must("delete an object", self.get(key).await, |found| found.is_none())?;
        self.prune(layout::PROBE).await
    }

    /// Tries whether an object that is not there is told to be missing. S3 tells that only to who may list: to others it
    /// denies it, and then a missing chunk could not be told from a forbidden one.
    ///
    /// # Errors
    /// Invalid when it is denied; else whatever the request failed with.
    pub async fn check_missing_is_told(&self) -> Result<()> {
        match self.get(layout::MISSING).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind == Kind::Invalid && error.message.starts_with("no permission") => {
                Err(Error::invalid(format!("no permission to tell what is missing below {}", self.url)).hint(
                    "allow s3:GetObject on what is below it, and s3:ListBucket on the bucket with this prefix: without \
                     the latter, S3 denies what is not there",
                ))
            }
            Err(error) => Err(error),
        }
    }

    /// Tries whether an object may be written and deleted below this output; `worker` keeps it apart from others'.
    ///
    /// # Errors
    /// Invalid when it may not; else whatever a request failed with.
    pub async fn try_writing(&self, worker: &str) -> Result<()> {
        let key = layout::probe_of(worker);
        self.put(&key, Bytes::from_static(FIRST)).await?;
        self.delete(&key).await
    }

    async fn whole(&self, key: &str) -> Result<Bytes> {
        Ok(self.get(key).await?.map(|object| object.bytes).unwrap_or_default())
    }

    /// What a request gave, if it is as it should be.
    fn must<T>(&self, ability: &str, given: Result<T>, is_right: impl Fn(&T) -> bool) -> Result<()> {
        let lacking = match given {
            Ok(given) if is_right(&given) => return Ok(()),
            Ok(_) => String::new(),
            // How a backend says that it knows no such request.
            Err(error) if error.kind == Kind::Internal => format!(" ({})", error.message),
            Err(error) => return Err(error),
        };
        let url = &self.url;
        Err(Error::invalid(format!("{url} can't hold a run: the store there doesn't {ability}{lacking}"))
            .hint("choose an output in another store with -o or `output`, or a newer version of its server"))
    }
}

#[cfg(test)]
mod tests;
