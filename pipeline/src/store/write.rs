//! Writing and deleting: whole objects that appear at once or not at all, as long as the store's gates are open.

use std::path::Path as FsPath;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, PutPayloadMut, TagSet,
};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::failure::{Doing, failure};
use super::{Counters, Store, count, local};
use crate::{Result, layout};

/// Part size of a streamed upload; buckets want at least 5 MiB, and at most 10,000 parts.
pub(super) const PART_BYTES: usize = 8 << 20;

/// Parts of an upload in flight at once.
const PARTS_IN_FLIGHT: usize = 2;

/// What an upload holds at most: the parts in flight, and the next one.
pub(crate) const UPLOAD_BYTES: u64 = ((PARTS_IN_FLIGHT + 1) * PART_BYTES) as u64;

/// A larger object goes to a bucket in parts, of which a lost one alone is sent again.
const ONE_REQUEST_BYTES: usize = 64 << 20;

/// How an object is written.
fn options(at: &Path, mode: PutMode) -> PutOptions {
    PutOptions { mode, tags: tags(at), ..PutOptions::default() }
}

/// The tags of an object, which a bucket that takes none is not told: a bucket's rules know them, and no patterns of keys.
fn tags(at: &Path) -> TagSet {
    let mut tags = TagSet::default();
    if layout::is_scratch(at.as_ref()) {
        tags.push("voxmill", "scratch");
    }
    tags
}

impl Store {
    /// Writes an object, replacing what was there: a crash leaves the old object or none, never a part.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        self.check_writable()?;
        let at = self.locate(key)?;
        count(&self.counters.bytes_out, bytes.len() as u64);
        let put = if self.on_disk() || bytes.len() <= ONE_REQUEST_BYTES {
            count(&self.counters.puts, 1);
            self.backend.put_opts(&at, bytes.into(), options(&at, PutMode::Overwrite)).await.map(|_| ())
        } else {
            self.put_in_parts(&at, bytes).await
        };
        put.map_err(|e| failure(Doing::Write, &self.display(key), &e))
    }

    async fn put_in_parts(&self, at: &Path, bytes: Bytes) -> object_store::Result<()> {
        let mut parts = Parts::begin(self, at).await?;
        // As few as there may be, but for those that are small enough to be sent again.
        for start in (0..bytes.len()).step_by(ONE_REQUEST_BYTES / 4) {
            let end = bytes.len().min(start + ONE_REQUEST_BYTES / 4);
            parts.send(bytes.slice(start..end).into()).await?;
        }
        parts.complete().await
    }

    /// Writes an object unless one is there already; false when one was.
    pub async fn put_new(&self, key: &str, bytes: Bytes) -> Result<bool> {
        self.check_writable()?;
        let at = self.locate(key)?;
        count(&self.counters.puts, 1);
        let len = bytes.len() as u64;
        match self.backend.put_opts(&at, bytes.into(), options(&at, PutMode::Create)).await {
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
        Ok(Upload { store: self.clone(), at, name, next: PutPayloadMut::new(), parts: None, written: 0, crc32c: 0 })
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

/// An object being written part by part, or at once where it turns out to be small: a part more costs two requests more.
/// Dropped before [`Upload::finish`], it leaves nothing to be seen.
#[derive(Debug)]
pub struct Upload {
    store: Store,
    at: Path,
    name: String,
    /// What was written since the last part.
    next: PutPayloadMut,
    /// Once there is more than one part.
    parts: Option<Parts>,
    written: u64,
    crc32c: u32,
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
        self.store.gates.check()?;
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.next.content_length() == PART_BYTES {
                self.send().await?;
            }
            let room = PART_BYTES - self.next.content_length();
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.next.extend_from_slice(now);
            rest = later;
        }
        self.written += bytes.len() as u64;
        self.crc32c = crc32c::crc32c_append(self.crc32c, bytes);
        Ok(())
    }

    /// Sends what was written since the last part as a part.
    async fn send(&mut self) -> Result<()> {
        let mut parts = match self.parts.take() {
            Some(parts) => parts,
            None => Parts::begin(&self.store, &self.at).await.map_err(|e| failure(Doing::Write, &self.name, &e))?,
        };
        let sent = parts.send(std::mem::take(&mut self.next).freeze()).await;
        self.parts = Some(parts);
        sent.map_err(|e| failure(Doing::Write, &self.name, &e))
    }

    /// Makes the object visible, replacing what was there.
    pub async fn finish(mut self) -> Result<Uploaded> {
        self.store.gates.check()?;
        if self.parts.is_some() {
            self.send().await?;
        }
        let counters = &self.store.counters;
        let done = match self.parts.take() {
            Some(parts) => parts.complete().await,
            None => {
                count(&counters.puts, 1);
                let bytes = std::mem::take(&mut self.next).freeze();
                let options = options(&self.at, PutMode::Overwrite);
                self.store.backend.put_opts(&self.at, bytes, options).await.map(|_| ())
            }
        };
        done.map_err(|e| failure(Doing::Write, &self.name, &e))?;
        count(&counters.bytes_out, self.written);
        Ok(Uploaded { bytes: self.written, crc32c: self.crc32c })
    }

    /// Gives up and cleans away what was sent.
    pub async fn abort(mut self) -> Result<()> {
        match self.parts.take() {
            Some(parts) => parts.abort().await.map_err(|e| failure(Doing::Write, &self.name, &e)),
            None => Ok(()),
        }
    }
}

/// The parts of an object on their way. Dropped before they are complete, they are taken back.
#[derive(Debug)]
struct Parts {
    /// None once it is decided what becomes of them.
    upload: Option<Box<dyn MultipartUpload>>,
    running: JoinSet<object_store::Result<()>>,
    /// Whether parts are sent side by side, which a disk has no use for.
    at_once: bool,
    counters: Arc<Counters>,
}

impl Parts {
    async fn begin(store: &Store, at: &Path) -> object_store::Result<Self> {
        count(&store.counters.puts, 1);
        let upload = store.backend.put_multipart_opts(at, tags(at).into()).await?;
        let (running, at_once, counters) = (JoinSet::new(), !store.on_disk(), Arc::clone(&store.counters));
        Ok(Self { upload: Some(upload), running, at_once, counters })
    }

    /// Sends a part as soon as few enough are on their way.
    async fn send(&mut self, part: PutPayload) -> object_store::Result<()> {
        while self.running.len() >= PARTS_IN_FLIGHT {
            self.join_one().await?;
        }
        if let Some(upload) = &mut self.upload {
            count(&self.counters.puts, 1);
            let sent = upload.put_part(part);
            if !self.at_once {
                return sent.await;
            }
            self.running.spawn(sent);
        }
        Ok(())
    }

    async fn join_one(&mut self) -> object_store::Result<()> {
        match self.running.join_next().await {
            Some(joined) => joined.map_err(|e| object_store::Error::Generic { store: "upload", source: e.into() })?,
            None => Ok(()),
        }
    }

    /// Makes one object of them.
    async fn complete(mut self) -> object_store::Result<()> {
        while !self.running.is_empty() {
            self.join_one().await?;
        }
        let Some(mut upload) = self.upload.take() else { return Ok(()) };
        count(&self.counters.puts, 1);
        match upload.complete().await {
            Ok(_) => Ok(()),
            Err(e) => {
                // It may have become whole and the answer been lost; then there is nothing to be taken back.
                let _ = upload.abort().await;
                Err(e)
            }
        }
    }

    async fn abort(mut self) -> object_store::Result<()> {
        self.running.shutdown().await;
        match self.upload.take() {
            Some(mut upload) => upload.abort().await,
            None => Ok(()),
        }
    }
}

/// Buckets keep, and charge for, the parts of what is never completed. What is not even dropped is left to a rule of the
/// bucket's (`infra/` sets one up).
impl Drop for Parts {
    fn drop(&mut self) {
        let (Some(mut upload), Ok(runtime)) = (self.upload.take(), Handle::try_current()) else { return };
        let mut running = std::mem::take(&mut self.running);
        runtime.spawn(async move {
            running.shutdown().await;
            let _ = upload.abort().await;
        });
    }
}
