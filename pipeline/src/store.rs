//! Objects under one root, read and written by key: the only place that names a storage backend.
//!
//! A [`Store`] is a root (a directory, a web server's folder to read from) and everything below it. It adds to `object_store` what
//! voxmill promises: errors that say what to do next, the version of each object read, neighbouring ranges in one
//! request, keys that can't leave the root, and counters. Retrying single requests is the backend's; retrying tasks is
//! dispatch's; what the keys mean is the business of arrays and layout. `read` and `write` are what their names say,
//! `probe` tries whether a store can be trusted, `stores` says which store a URL names, `s3` how S3 is spoken to.
//!
//! Every object appears whole or not at all. On a disk it is staged beside its place (`name#1`) and renamed, which
//! holds against a killed process; that the bytes survive a power cut is the file system's promise, not ours.

mod failure;
mod local;
#[cfg(any(feature = "gcs", feature = "azure"))]
mod others;
mod probe;
mod read;
mod s3;
mod stores;
#[cfg(test)]
mod tests;
mod web;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::fence::{Fence, Guard};
use crate::{Error, Result};

pub use stores::{AccessKey, Credentials, S3Settings, Stores};
pub(crate) use write::UPLOAD_BYTES;
pub use write::{Upload, Uploaded};

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

impl Requests {
    /// These and those.
    pub fn plus(self, other: Self) -> Self {
        self.with(other, u64::wrapping_add)
    }

    /// These without those, which were counted earlier.
    pub fn minus(self, earlier: Self) -> Self {
        self.with(earlier, u64::saturating_sub)
    }

    fn with(self, other: Self, of: fn(u64, u64) -> u64) -> Self {
        Self {
            gets: of(self.gets, other.gets),
            puts: of(self.puts, other.puts),
            lists: of(self.lists, other.lists),
            deletes: of(self.deletes, other.deletes),
            bytes_in: of(self.bytes_in, other.bytes_in),
            bytes_out: of(self.bytes_out, other.bytes_out),
        }
    }
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

/// Whether a URL is one of a disk: a path, or `file://` and one.
pub fn names_a_disk(url: &str) -> bool {
    url.split_once("://").is_none_or(|(scheme, _)| scheme.eq_ignore_ascii_case("file"))
}

impl Store {
    /// Opens the root `url`: a path, `file://` and an absolute path, or `http://` or `https://` to read from. Nothing
    /// needs to be there; folders are made when the first object is written. Buckets are opened by [`Stores`].
    ///
    /// # Errors
    /// Invalid for an empty URL, a path that is not UTF-8, and for schemes this version doesn't speak.
    pub fn open(url: &str) -> Result<Store> {
        if let Some((scheme, _)) = url.split_once("://") {
            match scheme.to_ascii_lowercase().as_str() {
                "file" => {}
                "http" | "https" => {
                    let (backend, prefix, url) = web::open(url)?;
                    return Ok(Store::at(backend, prefix, &url, Place::Web { whole_only: Arc::default() }));
                }
                "s3" => return Err(Error::invalid(format!("a bucket can't be used here: {url}"))),
                "gs" | "az" => {
                    let feature = if scheme.eq_ignore_ascii_case("gs") { "gcs" } else { "azure" };
                    return Err(Error::invalid(format!("{scheme}:// is not built into this voxmill: {url}"))
                        .hint(format!("build it with `cargo build --release --features pipeline/{feature}`")));
                }
                _ => {
                    return Err(Error::invalid(format!("{url} has an unknown scheme: {scheme}://"))
                        .hint("use a path, s3://BUCKET/PATH, or http:// and https:// to read from"));
                }
            }
        }
        let path = local::absolute(url)?;
        let prefix = Path::parse(&path).map_err(|e| Error::invalid(format!("{url} can't be used as a path: {e}")))?;
        Ok(Store::at(Arc::new(LocalFileSystem::new()), prefix, &path, Place::Disk))
    }

    /// A store at the root of any backend that behaves like a bucket. `url` is how messages name it.
    pub fn over(backend: Arc<dyn ObjectStore>, url: &str) -> Store {
        Store::at(backend, Path::default(), url.trim_end_matches('/'), Place::Bucket)
    }

    fn at(backend: Arc<dyn ObjectStore>, prefix: Path, url: &str, place: Place) -> Store {
        let (counters, gates) = (Arc::default(), Gates::default());
        Store { backend, prefix, url: url.into(), counters, place, gates, below: None }
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
        let guard = match self.gates.guard.clone() {
            Some(before) => before.and(guard),
            None => guard,
        };
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

    /// [`Store::on_disk`] of this store and of what is beneath it.
    pub(crate) fn all_on_disk(&self) -> bool {
        self.on_disk() && self.below.as_deref().is_none_or(|(below, _)| below.all_on_disk())
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
