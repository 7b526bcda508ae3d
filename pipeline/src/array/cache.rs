//! Chunks in memory: each fetched once and decoded once, however many threads want it, and kept while there is room.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use voxel::AnyVolume;

use crate::store::Version;
use crate::{Error, Result};

/// Decoded chunks of any number of arrays, up to a bound in bytes. Where there are more, those go first that are wanted
/// last, as far as that is known (a `Wanted`), and of others the least recently used. Clones share it. Make one for a run:
/// it takes what it holds to be still what the store holds.
///
/// Chunks in use by a [`super::Fetched`] are never dropped, so those can hold it above the bound for a while; they
/// count, so nothing else is then kept. Indices of shards take up to an eighth of the bound.
#[derive(Clone, Debug)]
pub struct ChunkCache(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    chunks: Mutex<Kept<ChunkKey, Arc<Slot>>>,
    indices: Mutex<Kept<ChunkKey, Arc<IndexSlot>>>,
    bytes_max: AtomicUsize,
}

/// Who else reads a chunk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// How often it is fetched before nobody wants it any more.
    pub(crate) readers: u64,
    /// When it is fetched next: a stage and a unit of it.
    pub(crate) next: Next,
}

/// A stage, and a unit of it.
pub(crate) type Next = (usize, u64);

impl Wanted {
    /// Nothing is known of who will.
    pub(crate) const BY_ANYBODY: Self = Self { readers: u64::MAX, next: (0, 0) };
}

/// An array's id, and the grid index along z, y, x of a chunk or shard.
pub(super) type ChunkKey = ([u8; 16], [u64; 3]);

/// One chunk on its way from nothing over raw bytes to voxels.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Held by who fetches it; the others wait here.
    pub(super) fetching: tokio::sync::Mutex<()>,
    content: Mutex<Option<Content>>,
    decoded: OnceLock<Result<Chunk>>,
    reads: AtomicU64,
}

#[derive(Debug)]
struct Content {
    raw: Raw,
    /// Of the object the bytes are from; `None` when there was none.
    version: Option<Version>,
}

/// What came from the store.
#[derive(Clone, Debug)]
pub(super) enum Raw {
    /// The store has no such chunk: it is full of the fill value.
    Missing,
    Bytes(Bytes),
    /// The bytes were dropped when the voxels came to be.
    Decoded,
}

/// A decoded chunk.
#[derive(Debug)]
enum Chunk {
    Fill,
    Voxels(AnyVolume),
}

/// The index of one shard, on its way; `None` until read.
pub(super) type IndexSlot = tokio::sync::Mutex<Option<Arc<ShardIndex>>>;

/// Where a shard's chunks are.
#[derive(Debug)]
pub(super) enum ShardIndex {
    /// The store has no such shard.
    Missing,
    Entries {
        /// Offset and length of each chunk, in C order; both `u64::MAX` for one that is not there.
        entries: Vec<u64>,
        version: Version,
        /// Length of the shard in bytes.
        size: u64,
    },
}

impl Slot {
    /// Notes that the chunk is wanted once more.
    pub(super) fn note_read(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was wanted, for as long as it has been kept.
    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// True when raw bytes or voxels are there.
    pub(super) fn is_fetched(&self) -> bool {
        lock(&self.content).is_some()
    }

    /// True when the store had no such chunk.
    pub(super) fn is_missing(&self) -> bool {
        matches!(&*lock(&self.content), Some(Content { raw: Raw::Missing, .. }))
    }

    /// The version of the object it came from.
    pub(super) fn version(&self) -> Option<Version> {
        lock(&self.content).as_ref().and_then(|content| content.version.clone())
    }

    /// The bytes from the store, as long as they have not become voxels.
    pub(super) fn raw(&self) -> Option<Bytes> {
        match &*lock(&self.content) {
            Some(Content { raw: Raw::Bytes(bytes), .. }) => Some(bytes.clone()),
            _ => None,
        }
    }

    /// Makes the voxels by `decode`, if nobody has yet; whoever comes meanwhile waits.
    pub(super) fn decode(&self, decode: impl FnOnce(&[u8]) -> Result<AnyVolume>) -> Result<()> {
        let chunk = self.decoded.get_or_init(|| {
            let raw = lock(&self.content).as_ref().map(|content| content.raw.clone());
            match raw {
                Some(Raw::Missing) => Ok(Chunk::Fill),
                Some(Raw::Bytes(bytes)) => {
                    let voxels = decode(&bytes)?;
                    if let Some(content) = lock(&self.content).as_mut() {
                        content.raw = Raw::Decoded;
                    }
                    Ok(Chunk::Voxels(voxels))
                }
                Some(Raw::Decoded) | None => Err(Error::internal("a chunk was to be decoded before it was fetched")),
            }
        });
        chunk.as_ref().map(|_| ()).map_err(Error::clone)
    }

    /// The voxels of a decoded chunk; `None` for one that is full of the fill value.
    pub(super) fn voxels(&self) -> Option<&AnyVolume> {
        match self.decoded.get() {
            Some(Ok(Chunk::Voxels(voxels))) => Some(voxels),
            _ => None,
        }
    }

    /// [`Slot::voxels`] of a chunk that nobody else has.
    pub(super) fn into_voxels(self) -> Option<AnyVolume> {
        match self.decoded.into_inner() {
            Some(Ok(Chunk::Voxels(voxels))) => Some(voxels),
            _ => None,
        }
    }
}

impl ChunkCache {
    /// A cache of at most `bytes_max` bytes of decoded chunks and shard indices. With 0 nothing outlives its use, and
    /// chunks wanted by several threads at the same time are still shared.
    pub fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Shared {
            chunks: Mutex::new(Kept::new()),
            indices: Mutex::new(Kept::new()),
            bytes_max: AtomicUsize::new(bytes_max),
        }))
    }

    /// Changes the bound, and drops what no longer fits.
    pub fn keep(&self, bytes_max: usize) {
        self.0.bytes_max.store(bytes_max, Ordering::Relaxed);
        lock(&self.0.indices).trim(bytes_max / 8);
        self.trim();
    }

    fn bytes_max(&self) -> usize {
        self.0.bytes_max.load(Ordering::Relaxed)
    }

    /// Bytes held now: decoded chunks, chunks fetched but not decoded yet, and shard indices.
    pub fn bytes(&self) -> usize {
        lock(&self.0.chunks).bytes + lock(&self.0.indices).bytes
    }

    pub(super) fn slot(&self, key: ChunkKey) -> Arc<Slot> {
        lock(&self.0.chunks).get_or_default(key)
    }

    /// Whether a chunk is there, or on its way.
    pub(super) fn knows(&self, key: &ChunkKey) -> bool {
        lock(&self.0.chunks).entries.contains_key(key)
    }

    /// Hands a slot what came from the store.
    pub(super) fn fetched(&self, key: &ChunkKey, slot: &Arc<Slot>, raw: Raw, version: Option<Version>) {
        let weight = if let Raw::Bytes(bytes) = &raw { bytes.len() } else { 0 };
        *lock(&slot.content) = Some(Content { raw, version });
        lock(&self.0.chunks).weigh(key, slot, weight);
    }

    /// Notes what a decoded chunk weighs.
    pub(super) fn weigh(&self, key: &ChunkKey, slot: &Arc<Slot>, bytes: usize) {
        lock(&self.0.chunks).weigh(key, slot, bytes);
    }

    /// Notes when a chunk is wanted next; the latest that anybody says is true, since units are begun in order.
    pub(super) fn wanted(&self, key: &ChunkKey, slot: &Arc<Slot>, next: Next) {
        lock(&self.0.chunks).postpone(key, slot, next);
    }

    /// Forgets a chunk, so that the next who wants it reads it anew.
    pub(super) fn forget(&self, key: &ChunkKey, slot: &Arc<Slot>) {
        lock(&self.0.chunks).remove(key, slot);
    }

    /// Drops what no longer fits, now that something is no longer in use.
    pub(super) fn trim(&self) {
        let for_indices = lock(&self.0.indices).bytes;
        lock(&self.0.chunks).trim(self.bytes_max().saturating_sub(for_indices));
    }

    pub(super) fn index(&self, key: ChunkKey) -> Arc<IndexSlot> {
        lock(&self.0.indices).get_or_default(key)
    }

    /// Notes what an index weighs, and drops what no longer fits.
    pub(super) fn weigh_index(&self, key: &ChunkKey, slot: Arc<IndexSlot>, bytes: usize) {
        let mut indices = lock(&self.0.indices);
        indices.weigh(key, &slot, bytes);
        // The caller's own hold must not keep it.
        drop(slot);
        indices.trim(self.bytes_max() / 8);
    }

    pub(super) fn forget_index(&self, key: &ChunkKey, slot: &Arc<IndexSlot>) {
        lock(&self.0.indices).remove(key, slot);
    }
}

/// Locks also after a panic elsewhere: every critical section here leaves the value whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Shared values with weights; first to go are those wanted last, of these the least recently used.
#[derive(Debug)]
struct Kept<K, V> {
    entries: HashMap<K, Held<V>>,
    by_use: BTreeMap<Use, K>,
    clock: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Held<V> {
    value: V,
    bytes: usize,
    used: Use,
}

/// When a value is wanted next, and when it was used last.
type Use = (Reverse<Next>, u64);

impl<K: Eq + Hash + Copy, T: Default> Kept<K, Arc<T>> {
    fn new() -> Self {
        Self { entries: HashMap::new(), by_use: BTreeMap::new(), clock: 0, bytes: 0 }
    }

    fn get_or_default(&mut self, key: K) -> Arc<T> {
        self.clock += 1;
        let used = (Reverse((0, 0)), self.clock);
        let held = self.entries.entry(key).or_insert_with(|| Held { value: Arc::default(), bytes: 0, used });
        self.by_use.remove(&held.used);
        held.used.1 = self.clock;
        self.by_use.insert(held.used, key);
        Arc::clone(&held.value)
    }

    fn postpone(&mut self, key: &K, value: &Arc<T>, next: Next) {
        let held = self.entries.get_mut(key).filter(|held| Arc::ptr_eq(&held.value, value));
        if let Some(held) = held.filter(|held| held.used.0.0 < next) {
            self.by_use.remove(&held.used);
            held.used.0 = Reverse(next);
            self.by_use.insert(held.used, *key);
        }
    }

    fn weigh(&mut self, key: &K, value: &Arc<T>, bytes: usize) {
        if let Some(held) = self.entries.get_mut(key).filter(|held| Arc::ptr_eq(&held.value, value)) {
            self.bytes = self.bytes - held.bytes + bytes;
            held.bytes = bytes;
        }
    }

    fn remove(&mut self, key: &K, value: &Arc<T>) {
        if self.entries.get(key).is_some_and(|held| Arc::ptr_eq(&held.value, value))
            && let Some(held) = self.entries.remove(key)
        {
            self.by_use.remove(&held.used);
            self.bytes -= held.bytes;
        }
    }

    /// Drops what is wanted last until the rest fits into `bytes_max`; what somebody holds stays. Entries without
    /// weight (fill chunks, failed fetches) would never be pushed out, so each counts as a little more than its
    /// bookkeeping.
    fn trim(&mut self, bytes_max: usize) {
        const ENTRY_BYTES: usize = 256;
        let mut excess = (self.bytes + self.entries.len() * ENTRY_BYTES).saturating_sub(bytes_max);
        let mut victims = Vec::new();
        for key in self.by_use.values() {
            if excess == 0 {
                break;
            }
            if let Some(held) = self.entries.get(key).filter(|held| Arc::strong_count(&held.value) == 1) {
                excess = excess.saturating_sub(held.bytes + ENTRY_BYTES);
                victims.push((*key, Arc::clone(&held.value)));
            }
        }
        for (key, value) in victims {
            self.remove(&key, &value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first_and_what_is_held_stays() {
        let mut kept: Kept<u32, Arc<u8>> = Kept::new();
        for key in 0..4 {
            let value = kept.get_or_default(key);
            kept.weigh(&key, &value, 700);
        }
        let held = kept.get_or_default(1);
        kept.get_or_default(0);
        kept.trim(3000);
        let mut left: Vec<u32> = kept.entries.keys().copied().collect();
        left.sort();
        assert_eq!((left, kept.bytes), (vec![0, 1, 3], 2100));
        kept.trim(0);
        assert_eq!(kept.entries.keys().collect::<Vec<_>>(), [&1]);
        drop(held);
        kept.trim(0);
        assert_eq!((kept.entries.len(), kept.by_use.len(), kept.bytes), (0, 0, 0));
    }

    #[test]
    fn what_is_wanted_last_goes_first() {
        let mut kept: Kept<u32, Arc<u8>> = Kept::new();
        for (key, next) in [(0, (1, 3)), (1, (1, 9)), (2, (0, 0)), (3, (2, 0)), (4, (1, 9))] {
            let value = kept.get_or_default(key);
            kept.weigh(&key, &value, 700);
            kept.postpone(&key, &value, next);
            // What somebody said before who came later.
            kept.postpone(&key, &value, (0, 1));
        }
        for gone in [3, 1, 4, 0] {
            let bytes = kept.bytes + kept.entries.len() * 256 - 1;
            kept.trim(bytes);
            assert!(!kept.entries.contains_key(&gone), "{gone}");
        }
        assert_eq!((kept.entries.len(), kept.by_use.len(), kept.bytes), (1, 1, 700));
    }
}
