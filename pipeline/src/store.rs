//! Objects under one root, read and written by key: the only place that names a storage backend.
//!
//! A [`Store`] is a root (a directory, a web server's folder to read from) and everything below it. It adds to `object_store` what
//! voxmill promises: errors that say what to do next, the version of each object read, neighbouring ranges in one
//! request, keys that can't leave the root, and counters. Retrying single requests is the backend's; retrying tasks is
//! dispatch's; what the keys mean is the business of arrays and layout.
//!
//! Every object appears whole or not at all. On a disk it is staged beside its place (`name#1`) and renamed, which
//! holds against a killed process; that the bytes survive a power cut is the file system's promise, not ours.

mod failure;
mod local;
mod probe;
#[cfg(test)]
mod tests;
mod web;

use std::ops::Range;
use std::path::Path as FsPath;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, WriteMultipart};
use serde::{Deserialize, Serialize};

use crate::fence::{Fence, Guard};
use crate::{Error, Result};
use failure::{Doing, failure};

/// Ranges of one object closer than this are read as one: about what a bucket sends in the time of another request,
/// and next to nothing on a disk.
const COALESCE_GAP_BYTES: u64 = 256 << 10;

/// Part size of a streamed upload; buckets want at least 5 MiB, and at most 10,000 parts.
const PART_BYTES: usize = 8 << 20;

/// Parts of a streamed upload in flight at once.
const PARTS_IN_FLIGHT: usize = 2;

/// Requests that one call of [`Store::get_ranges`] has in flight at once.
const RANGES_IN_FLIGHT: usize = 8;

/// A root and the objects below it. Cheap to clone; clones and children share the connection and the counters.
#[derive(Clone, Debug)]
pub struct Store {
    backend: Arc<dyn ObjectStore>,
    prefix: Path,
    /// How messages name the root: an absolute path, or a URL. Without a `/` at the end, but for the root `/`.
    url: Arc<str>,
    counters: Arc<Counters>,
    place: Place,
    gates: Gates,
    /// Where objects are looked for that are not here, but for the one that is to be hidden.
    below: Option<Arc<(Store, String)>>,
}

/// What is asked before each write.
#[derive(Clone, Debug, Default)]
struct Gates {
    fence: Option<Fence>,
    guard: Option<Guard>,
}

impl Gates {
    fn check(&self) -> Result<()> {
        self.guard.as_ref().map_or(Ok(()), Guard::check)?;
        self.fence.as_ref().map_or(Ok(()), Fence::check)
    }
}

/// What kind of place a store is at.
#[derive(Clone, Debug)]
enum Place {
    /// A file system.
    Disk,
    /// A bucket, or what behaves like one.
    Bucket,
    /// A web server, which is read only and lists nothing.
    Web {
        /// Set when the server has sent a whole object where a range was asked for.
        whole_only: Arc<AtomicBool>,
    },
}

/// An object, or the part of it that was asked for.
#[derive(Clone, Debug)]
pub struct Object {
    /// The bytes asked for.
    pub bytes: Bytes,
    /// Which state of the object they belong to.
    pub version: Version,
    /// Length of the whole object in bytes.
    pub size: u64,
}

/// Identifies the content an object had when it was read: what a receipt keeps to tell whether an input has changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Version {
    /// The entity tag a bucket gave the object.
    ETag {
        /// As the bucket sent it, quotes included.
        e_tag: String,
    },
    /// A file, which has no tag. The inode is left out, so that a restored copy with its times kept still matches.
    File {
        /// Length in bytes.
        size: u64,
        /// Last modification, in microseconds since 1970.
        mtime_us: i64,
    },
}

/// One object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the store's root.
    pub key: String,
    /// Length in bytes.
    pub size: u64,
}

/// What lies directly below a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Children {
    /// Names of deeper prefixes (folders), sorted, without slashes.
    pub folders: Vec<String>,
    /// Names of objects, sorted.
    pub objects: Vec<String>,
}

/// Requests made and bytes moved since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// Reads of an object or a range of one, and existence checks.
    pub gets: u64,
    /// Writes; a streamed upload counts each part.
    pub puts: u64,
    /// Listings, one per page of 1,000 entries.
    pub lists: u64,
    /// Deleted objects.
    pub deletes: u64,
    /// Bytes read.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
}

#[derive(Debug, Default)]
struct Counters {
    gets: AtomicU64,
    puts: AtomicU64,
    lists: AtomicU64,
    deletes: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

impl Store {
    /// Opens the root `url`: a path, `file://` and an absolute path, or `http://` or `https://` to read from. Nothing
    /// needs to be there; folders are made when the first object is written.
    ///
    /// # Errors
    /// Invalid for an empty URL, a path that is not UTF-8, and for schemes this version doesn't speak.
    pub fn open(url: &str) -> Result<Store> {
        if let Some((scheme, _)) = url.split_once("://") {
            match scheme.to_ascii_lowercase().as_str() {
                "file" => {}
                "http" | "https" => {
                    let (backend, prefix, url) = web::open(url)?;
                    let place = Place::Web { whole_only: Arc::default() };
                    return Ok(Store {
                        backend,
                        prefix,
                        url: url.into(),
                        counters: Arc::default(),
                        place,
                        gates: Gates::default(),
                        below: None,
                    });
                }
                "s3" | "gs" | "az" => {
                    return Err(Error::invalid(format!("{scheme}:// is not built into this version yet: {url}"))
                        .hint("use a path on a local or mounted disk"));
                }
                _ => {
                    return Err(Error::invalid(format!("{url} has an unknown scheme: {scheme}://"))
                        .hint("use a path, or file:// and an absolute path"));
                }
            }
        }
        let path = local::absolute(url)?;
        let prefix = Path::parse(&path).map_err(|e| Error::invalid(format!("{url} can't be used as a path: {e}")))?;
        Ok(Store {
            backend: Arc::new(LocalFileSystem::new()),
            prefix,
            url: path.into(),
            counters: Arc::default(),
            place: Place::Disk,
            gates: Gates::default(),
            below: None,
        })
    }

    /// A store at the root of any backend that behaves like a bucket. `url` is how messages name it.
    pub fn over(backend: Arc<dyn ObjectStore>, url: &str) -> Store {
        Store {
            backend,
            prefix: Path::default(),
            url: url.trim_end_matches('/').into(),
            counters: Arc::default(),
            place: Place::Bucket,
            gates: Gates::default(),
            below: None,
        }
    }

    /// `upper` with this store beneath it: what `upper` doesn't have is read from here, but for the object `hidden`. This
    /// store is never written to. Lists and children are those of `upper` alone.
    pub fn beneath(&self, upper: Store, hidden: String) -> Store {
        Store { below: Some(Arc::new((self.clone(), hidden))), ..upper }
    }

    /// The same store, which writes and deletes only as long as `fence` lets it.
    pub fn fenced(&self, fence: Fence) -> Store {
        Store { gates: Gates { fence: Some(fence), ..self.gates.clone() }, ..self.clone() }
    }

    /// The same store, which writes and deletes only as long as `guard`, too, lets it.
    pub fn guarded(&self, guard: Guard) -> Store {
        Store { gates: Gates { guard: Some(guard), ..self.gates.clone() }, ..self.clone() }
    }

    /// The store whose root is `path` below this one's.
    ///
    /// # Errors
    /// Invalid when `path` is empty, absolute, or leaves the root.
    pub fn child(&self, path: &str) -> Result<Store> {
        let prefix = self.locate(path)?;
        let below = match self.below.as_deref() {
            Some((store, hidden)) => {
                let hidden = hidden.strip_prefix(path).and_then(|key| key.strip_prefix('/')).unwrap_or_default();
                Some(Arc::new((store.child(path)?, hidden.to_owned())))
            }
            None => None,
        };
        Ok(Store { prefix, url: self.display(path).into(), below, ..self.clone() })
    }

    /// The store one level up and this root's name in it; `None` at the top.
    pub fn parent(&self) -> Option<(Store, String)> {
        let name = self.prefix.filename()?.to_owned();
        let (above, _) = self.url.rsplit_once('/')?;
        let url = if above.is_empty() { "/" } else { above };
        let prefix = self.prefix.as_ref().rsplit_once('/').map_or("", |(above, _)| above);
        Some((Store { prefix: Path::parse(prefix).ok()?, url: url.into(), ..self.clone() }, name))
    }

    /// The root: an absolute path, or a URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// True where [`Store::children`] and [`Store::list`] answer; a web server doesn't say what it holds.
    pub fn can_list(&self) -> bool {
        !matches!(self.place, Place::Web { .. })
    }

    /// Whether objects may be written at all; that each may is seen when it is.
    ///
    /// # Errors
    /// Invalid on a web server, Unavailable when the store's fence is closed, and what its guard says
    /// when that is.
    pub fn check_writable(&self) -> Result<()> {
        match self.place {
            Place::Disk | Place::Bucket => self.gates.check(),
            Place::Web { .. } => {
                Err(Error::invalid(format!("nothing can be written to {}: http is read only", self.url))
                    .hint("write to a path on a disk"))
            }
        }
    }

    /// True where objects are files, and a process that is gone can leave no write on its way.
    pub fn on_disk(&self) -> bool {
        matches!(self.place, Place::Disk)
    }

    /// How messages name an object: the root and its key.
    pub fn display(&self, key: &str) -> String {
        format!("{}/{key}", self.url.trim_end_matches('/'))
    }

    /// Requests made and bytes moved so far, by this store, its clones and its children.
    pub fn requests(&self) -> Requests {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let c = &*self.counters;
        Requests {
            gets: of(&c.gets),
            puts: of(&c.puts),
            lists: of(&c.lists),
            deletes: of(&c.deletes),
            bytes_in: of(&c.bytes_in),
            bytes_out: of(&c.bytes_out),
        }
    }

    /// Reads an object; `None` when there is none, and only then: a denied or failed read is an error.
    pub async fn get(&self, key: &str) -> Result<Option<Object>> {
        self.get_with(key, None, u64::MAX).await
    }

    /// [`Store::get`] of an object that should have no more than `most` bytes.
    ///
    /// # Errors
    /// Data when it has more; nothing of it is read then.
    pub async fn get_at_most(&self, key: &str, most: u64) -> Result<Option<Object>> {
        self.get_with(key, None, most).await
    }

    /// Reads bytes `range` of an object: fewer where the object ends earlier, none where it ends before the range.
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Object>> {
        if range.is_empty() {
            return Ok(self.head(key).await?.map(|meta| self.object(&meta, Bytes::new())));
        }
        match self.get_with(key, Some(GetRange::Bounded(range.clone())), u64::MAX).await {
            // Backends call a range beyond the end an error, each in its own words; the length settles it.
            Err(refused) => match self.head(key).await {
                Ok(Some(meta)) if meta.size <= range.start => Ok(Some(self.object(&meta, Bytes::new()))),
                _ => Err(refused),
            },
            read => read,
        }
    }

    /// Reads the last `n` bytes of an object: all of it when it is shorter.
    pub async fn get_suffix(&self, key: &str, n: u64) -> Result<Option<Object>> {
        match self.get_with(key, Some(GetRange::Suffix(n)), u64::MAX).await {
            // Nothing has no end: some servers say so.
            Err(refused) if !self.on_disk() => match self.head(key).await {
                Ok(Some(meta)) if meta.size == 0 => Ok(Some(self.object(&meta, Bytes::new()))),
                _ => Err(refused),
            },
            read => read,
        }
    }

    /// Reads several ranges of one object, neighbours in one request. The answers are in the order asked, each
    /// with the length of its range, or shorter where the object ends; the version is that of all of them.
    ///
    /// # Errors
    /// Unavailable when the object is replaced by another while its ranges are being read.
    pub async fn get_ranges(&self, key: &str, ranges: &[Range<u64>]) -> Result<Option<(Vec<Bytes>, Version)>> {
        let merged = coalesced(ranges);
        let reads: Vec<_> = merged.iter().map(|range| self.get_range(key, range.clone())).collect();
        let read: Vec<Option<Object>> = futures::stream::iter(reads).buffered(RANGES_IN_FLIGHT).try_collect().await?;
        let Some(read) = read.into_iter().collect::<Option<Vec<Object>>>() else { return Ok(None) };
        let version = match read.first() {
            Some(first) => first.version.clone(),
            None => match self.head(key).await? {
                Some(meta) => self.version(&meta),
                None => return Ok(None),
            },
        };
        if read.iter().any(|object| object.version != version) {
            return Err(Error::unavailable(format!("{} was replaced while it was being read", self.display(key))));
        }
        let parts = ranges.iter().map(|range| {
            let at = merged.partition_point(|m| m.start <= range.start).saturating_sub(1);
            match (merged.get(at), read.get(at)) {
                // An empty range lies anywhere, also before all that was read.
                (Some(m), Some(object)) if !range.is_empty() => {
                    let clip = |byte: u64| ((byte - m.start) as usize).min(object.bytes.len());
                    object.bytes.slice(clip(range.start)..clip(range.end))
                }
                _ => Bytes::new(),
            }
        });
        Ok(Some((parts.collect(), version)))
    }

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

    /// Every object below the folder `prefix` (the root when empty), at any depth, sorted by key.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        let at = self.locate_folder(prefix)?;
        self.check_listable()?;
        let found: Result<Vec<ObjectMeta>, _> = self.backend.list(Some(&at)).try_collect().await;
        let found = found.map_err(|e| failure(Doing::List, &self.display(prefix), &e))?;
        count(&self.counters.lists, 1 + found.len() as u64 / 1000);
        let mut entries: Vec<Entry> = found
            .into_iter()
            .filter_map(|meta| Some(Entry { key: self.key_of(&meta.location)?, size: meta.size }))
            .collect();
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(entries)
    }

    /// Every object below the folder `prefix` (the root when empty) with its version, as reading it would give it.
    pub async fn versions(&self, prefix: &str) -> Result<Vec<(String, Version)>> {
        let at = self.locate_folder(prefix)?;
        self.check_listable()?;
        if self.on_disk() {
            count(&self.counters.lists, 1);
            let folder = if prefix.is_empty() { self.url.to_string() } else { self.display(prefix) };
            let within = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
            let files = local::blocking(move || Ok(local::files(FsPath::new(&folder)))).await?;
            let version = |(key, size, mtime_us)| (format!("{within}{key}"), Version::File { size, mtime_us });
            return Ok(files.into_iter().map(version).collect());
        }
        let found: Result<Vec<ObjectMeta>, _> = self.backend.list(Some(&at)).try_collect().await;
        let found = found.map_err(|e| failure(Doing::List, &self.display(prefix), &e))?;
        count(&self.counters.lists, 1 + found.len() as u64 / 1000);
        Ok(found.iter().filter_map(|meta| Some((self.key_of(&meta.location)?, self.version(meta)))).collect())
    }

    /// What lies directly below the folder `prefix` (the root when empty). Nothing there gives an empty answer.
    pub async fn children(&self, prefix: &str) -> Result<Children> {
        let at = self.locate_folder(prefix)?;
        self.check_listable()?;
        let found = self.backend.list_with_delimiter(Some(&at)).await;
        let found = match found {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(Children::default()),
            Err(e) => return Err(failure(Doing::List, &self.display(prefix), &e)),
        };
        count(&self.counters.lists, 1 + (found.objects.len() + found.common_prefixes.len()) as u64 / 1000);
        let names = |paths: Vec<Path>| {
            let mut names: Vec<String> = paths.iter().filter_map(|p| p.filename().map(str::to_owned)).collect();
            names.sort();
            names
        };
        Ok(Children {
            folders: names(found.common_prefixes),
            objects: names(found.objects.into_iter().map(|meta| meta.location).collect()),
        })
    }

    fn check_listable(&self) -> Result<()> {
        if self.can_list() {
            return Ok(());
        }
        Err(Error::invalid(format!("{} is on a web server, which doesn't say what is inside", self.url)))
    }

    /// True when the object is there.
    pub async fn exists(&self, key: &str) -> Result<bool> {
        Ok(self.head(key).await?.is_some())
    }

    /// Bytes of an object, if it is there.
    pub async fn size(&self, key: &str) -> Result<Option<u64>> {
        Ok(self.head(key).await?.map(|meta| meta.size))
    }

    /// True when the root itself is an object: a file where a folder was expected.
    pub async fn is_object(&self) -> Result<bool> {
        match self.parent() {
            Some((above, name)) if !local::is_staged_name(&name) => above.exists(&name).await,
            _ => Ok(false),
        }
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

    /// The store beneath, where `key` is not hidden in it.
    fn below(&self, key: &str) -> Option<&Store> {
        self.below.as_deref().filter(|(_, hidden)| hidden != key).map(|(store, _)| store)
    }

    async fn get_with(&self, key: &str, range: Option<GetRange>, most: u64) -> Result<Option<Object>> {
        match (self.get_here(key, range.clone(), most).await?, self.below(key)) {
            (None, Some(below)) => Box::pin(below.get_with(key, range, most)).await,
            (found, _) => Ok(found),
        }
    }

    async fn get_here(&self, key: &str, range: Option<GetRange>, most: u64) -> Result<Option<Object>> {
        let at = self.locate(key)?;
        let read = match &self.place {
            Place::Web { whole_only } => self.get_from_web(&at, range, most, whole_only).await,
            Place::Disk | Place::Bucket => self.get_from_backend(&at, range, most).await,
        };
        match read {
            Ok((meta, Some(bytes))) => {
                count(&self.counters.bytes_in, bytes.len() as u64);
                Ok(Some(self.object(&meta, bytes)))
            }
            Ok((meta, None)) => Err(Error::data(format!(
                "{} has {} bytes, and can have no more than {most}",
                self.display(key),
                meta.size
            ))),
            Err(e) if web::is_refusal(&e) => {
                Err(Error::invalid(format!("can't read {}: the server doesn't allow it", self.display(key))))
            }
            Err(e) if failure::is_not_found(&e) => match self.broken_link(key) {
                Some(error) => Err(error),
                None => Ok(None),
            },
            Err(e) => Err(failure(Doing::Read, &self.display(key), &e)),
        }
    }

    /// An object's bytes, or none when it has more than `most`.
    async fn get_from_backend(
        &self,
        at: &Path,
        range: Option<GetRange>,
        most: u64,
    ) -> object_store::Result<(ObjectMeta, Option<Bytes>)> {
        count(&self.counters.gets, 1);
        let got = self.backend.get_opts(at, GetOptions { range, ..GetOptions::default() }).await?;
        let meta = got.meta.clone();
        if got.range.end - got.range.start > most {
            return Ok((meta, None));
        }
        let bytes = match self.place {
            Place::Disk | Place::Bucket => got.bytes().await?,
            Place::Web { .. } => {
                let whole = 0..got.range.end - got.range.start;
                web::collect(got, whole).await?
            }
        };
        Ok((meta, Some(bytes)))
    }

    /// The same from a server that may not know ranges, or not those from the end.
    async fn get_from_web(
        &self,
        at: &Path,
        range: Option<GetRange>,
        most: u64,
        whole_only: &AtomicBool,
    ) -> object_store::Result<(ObjectMeta, Option<Bytes>)> {
        let Some(range) = range else { return self.get_from_backend(at, None, most).await };
        if !whole_only.load(Ordering::Relaxed) {
            match self.get_from_backend(at, Some(range.clone()), most).await {
                Err(e) if web::is_whole_for_range(&e) => {}
                read => return read,
            }
            if let GetRange::Suffix(n) = range {
                count(&self.counters.gets, 1);
                let size = self.backend.head(at).await?.size;
                if n.min(size) > 0 {
                    let end = GetRange::Bounded(size.saturating_sub(n)..size);
                    match self.get_from_backend(at, Some(end), most).await {
                        Err(e) if web::is_whole_for_range(&e) => {}
                        read => return read,
                    }
                }
            }
            if !whole_only.swap(true, Ordering::Relaxed) {
                tracing::warn!("{} sends whole objects only, so parts of them are read again and again", self.url);
            }
        }
        count(&self.counters.gets, 1);
        let (meta, bytes) = web::cut_from_whole(&*self.backend, at, &range).await?;
        Ok((meta, Some(bytes)))
    }

    /// Why an object that could not be found is nevertheless not missing.
    fn broken_link(&self, key: &str) -> Option<Error> {
        if self.on_disk() { local::broken_link(FsPath::new(&self.display(key))) } else { None }
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectMeta>> {
        let at = self.locate(key)?;
        count(&self.counters.gets, 1);
        match self.backend.head(&at).await {
            Ok(meta) => Ok(Some(meta)),
            Err(e) if failure::is_not_found(&e) => match self.below(key) {
                Some(below) => Box::pin(below.head(key)).await,
                None => Ok(None),
            },
            Err(e) => Err(failure(Doing::Read, &self.display(key), &e)),
        }
    }

    fn object(&self, meta: &ObjectMeta, bytes: Bytes) -> Object {
        Object { bytes, version: self.version(meta), size: meta.size }
    }

    fn version(&self, meta: &ObjectMeta) -> Version {
        match &meta.e_tag {
            Some(e_tag) if !self.on_disk() => Version::ETag { e_tag: e_tag.clone() },
            _ => Version::File { size: meta.size, mtime_us: meta.last_modified.timestamp_micros() },
        }
    }

    /// The backend's path of `key`, which must stay below the root and be a name that objects can have.
    fn locate(&self, key: &str) -> Result<Path> {
        let refused = |why: &str| Err(Error::invalid(format!("{key:?} can't be a key in {}: {why}", self.url)));
        if key.is_empty() {
            return refused("it is empty");
        }
        if key.starts_with('/') || key.ends_with('/') {
            return refused("it begins or ends with a slash");
        }
        if key.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
            return refused("each part between slashes must be a name");
        }
        if key.split('/').any(local::is_staged_name) {
            return refused("names that end in # and a number are kept for files being written");
        }
        let full = if self.prefix.is_root() { key.to_owned() } else { format!("{}/{key}", self.prefix) };
        Path::parse(full).or_else(|e| refused(&e.to_string()))
    }

    fn locate_folder(&self, prefix: &str) -> Result<Path> {
        if prefix.is_empty() { Ok(self.prefix.clone()) } else { self.locate(prefix) }
    }

    fn key_of(&self, location: &Path) -> Option<String> {
        let below = location.as_ref().strip_prefix(self.prefix.as_ref())?;
        Some(below.trim_start_matches('/').to_owned())
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

/// The fewest ranges that cover `ranges` without reading over a gap of [`COALESCE_GAP_BYTES`] or more; ascending.
fn coalesced(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut sorted: Vec<Range<u64>> = ranges.iter().filter(|r| !r.is_empty()).cloned().collect();
    sorted.sort_by_key(|r| (r.start, r.end));
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match merged.last_mut() {
            Some(last) if range.start < last.end.saturating_add(COALESCE_GAP_BYTES) => {
                last.end = last.end.max(range.end)
            }
            _ => merged.push(range),
        }
    }
    merged
}
