//! Reading: whole objects, ranges, ends, neighbours in one request; what there is and of which version.

use std::ops::Range;
use std::path::Path as FsPath;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStoreExt};

use super::failure::{self, Doing, failure};
use super::{Children, Entry, Object, Place, Store, Version, count, local, s3, web};
use crate::{Error, Result};

/// Ranges of one object closer than this are read as one: about what a bucket sends in the time of another request,
/// and next to nothing on a disk.
const COALESCE_GAP_BYTES: u64 = 256 << 10;

/// Requests that one call of [`Store::get_ranges`] has in flight at once.
const RANGES_IN_FLIGHT: usize = 8;

impl Store {
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

    /// Says that an object will be read soon: a disk may have it at hand by then. Nothing is asked of a bucket.
    pub(crate) fn want_soon(&self, key: &str) {
        if self.on_disk() {
            local::want_soon(FsPath::new(&self.display(key)));
        }
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
            Place::Disk => got.bytes().await?,
            Place::Bucket => {
                let late = s3::patience(got.range.end - got.range.start);
                tokio::time::timeout(late, got.bytes())
                    .await
                    .map_err(|late| object_store::Error::Generic { store: "bucket", source: Box::new(late) })??
            }
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
}

/// The fewest ranges that cover `ranges` without reading over a gap of [`COALESCE_GAP_BYTES`] or more; ascending.
pub(super) fn coalesced(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
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
