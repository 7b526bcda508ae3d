//! Writing and deleting: whole objects that appear at once or not at all, as long as the store's gates are open.

use std::path::Path as FsPath;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt, PutMode, WriteMultipart};

use super::failure::{Doing, failure};
use super::{Counters, Gates, Store, count, local};
use crate::Result;

/// Part size of a streamed upload; buckets want at least 5 MiB, and at most 10,000 parts.
pub(super) const PART_BYTES: usize = 8 << 20;

/// Parts of a streamed upload in flight at once.
const PARTS_IN_FLIGHT: usize = 2;

impl Store {
    /// Writes an object, replacing what was there: a crash leaves the old object or none, never a part.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        self.check_writable()?;
        let at = self.locate(key)?;
        count(&self.counters.puts, 1);
        count(&self.counters.bytes_out, bytes.len() as u64);
        self.backend.put(&at, bytes.into()).await.map_err(|e| failure(Doing::Write, &self.display(key), &e))?;
        Ok(())
    }

    /// Writes an object unless one is there already; false when one was.
    pub async fn put_new(&self, key: &str, bytes: Bytes) -> Result<bool> {
        self.check_writable()?;
        let at = self.locate(key)?;
        count(&self.counters.puts, 1);
        let len = bytes.len() as u64;
        match self.backend.put_opts(&at, bytes.into(), PutMode::Create.into()).await {
            Ok(_) => {
                count(&self.counters.bytes_out, len);
                Ok(true)
            }
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(e) => Err(failure(Doing::Write, &self.display(key), &e)),
        }
    }

    /// Starts writing an object too big to hold in memory. It appears when [`Upload::finish`] returns.
    pub async fn upload(&self, key: &str) -> Result<Upload> {
        self.check_writable()?;
        let at = self.locate(key)?;
        let name = self.display(key);
        let upload = self.backend.put_multipart(&at).await.map_err(|e| failure(Doing::Write, &name, &e))?;
        let parts = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        Ok(Upload {
            parts,
            name,
            counters: Arc::clone(&self.counters),
            written: 0,
            crc32c: 0,
            gates: self.gates.clone(),
        })
    }

    /// Deletes an object; one that is not there is no error.
    pub async fn delete(&self, key: &str) -> Result<()> {
        self.check_writable()?;
        let at = self.locate(key)?;
        count(&self.counters.deletes, 1);
        match self.backend.delete(&at).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(failure(Doing::Delete, &self.display(key), &e)),
        }
    }

    /// Deletes everything below the folder `prefix`, and on a disk the folder; one that is not there is no error.
    /// Symbolic links are removed, never followed.
    pub async fn delete_prefix(&self, prefix: &str) -> Result<()> {
        self.check_writable()?;
        let at = self.locate(prefix)?;
        let name = self.display(prefix);
        if self.on_disk() {
            count(&self.counters.deletes, 1);
            return local::blocking(move || local::delete_folder(FsPath::new(&name))).await;
        }
        let found = self.backend.list(Some(&at)).map_ok(|meta| meta.location).boxed();
        let deleted = self.backend.delete_stream(found);
        let deleted = deleted.try_fold(0, |n, _| async move { Ok(n + 1) }).await;
        count(&self.counters.deletes, deleted.map_err(|e| failure(Doing::Delete, &name, &e))?);
        Ok(())
    }

    /// Removes what killed processes left half written below the folder `prefix` (the root when empty), and says how
    /// many files that were. Only the caller knows that nobody is writing there: it must hold the output's lock. Only
    /// files whose name ends in `#` and a number are touched, names no object of a store can have. Does nothing
    /// where half-written objects are invisible.
    pub async fn sweep_staged(&self, prefix: &str) -> Result<usize> {
        self.locate_folder(prefix)?;
        if !self.on_disk() {
            return Ok(0);
        }
        let folder = if prefix.is_empty() { self.url.to_string() } else { self.display(prefix) };
        local::blocking(move || local::sweep_staged(FsPath::new(&folder))).await
    }

    /// Removes what killed processes left half written of the object `key`, as [`Store::sweep_staged`] does below a folder.
    pub async fn sweep_staged_of(&self, key: &str) -> Result<usize> {
        self.locate(key)?;
        if !self.on_disk() {
            return Ok(0);
        }
        let path = self.display(key);
        local::blocking(move || local::sweep_staged_of(FsPath::new(&path))).await
    }

    /// Removes folders below `prefix`, and itself, that hold no object. Does nothing where there are no folders.
    pub async fn prune(&self, prefix: &str) -> Result<()> {
        self.locate(prefix)?;
        let folder = self.display(prefix);
        if self.on_disk() {
            local::blocking(move || {
                local::prune(FsPath::new(&folder));
                Ok(())
            })
            .await?;
        }
        Ok(())
    }
}

/// An object being written part by part. Dropped before [`Upload::finish`], it leaves nothing to be seen.
#[derive(Debug)]
pub struct Upload {
    parts: WriteMultipart,
    name: String,
    counters: Arc<Counters>,
    written: u64,
    crc32c: u32,
    gates: Gates,
}

/// What was uploaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uploaded {
    /// Length of the object.
    pub bytes: u64,
    /// CRC-32C of its bytes.
    pub crc32c: u32,
}

impl Upload {
    /// Appends bytes; waits while earlier parts are still on their way.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        for part in bytes.chunks(PART_BYTES) {
            self.gates.check()?;
            self.parts.wait_for_capacity(PARTS_IN_FLIGHT).await.map_err(|e| failure(Doing::Write, &self.name, &e))?;
            self.parts.write(part);
        }
        self.written += bytes.len() as u64;
        self.crc32c = crc32c::crc32c_append(self.crc32c, bytes);
        Ok(())
    }

    /// Makes the object visible, replacing what was there.
    pub async fn finish(self) -> Result<Uploaded> {
        self.gates.check()?;
        self.parts.finish().await.map_err(|e| failure(Doing::Write, &self.name, &e))?;
        count(&self.counters.puts, self.written.div_ceil(PART_BYTES as u64).max(1));
        count(&self.counters.bytes_out, self.written);
        Ok(Uploaded { bytes: self.written, crc32c: self.crc32c })
    }

    /// Gives up and cleans away what was sent.
    pub async fn abort(self) -> Result<()> {
        self.parts.abort().await.map_err(|e| failure(Doing::Write, &self.name, &e))
    }
}
