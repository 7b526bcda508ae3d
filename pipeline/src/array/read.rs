//! Reading a region: fetch the raw bytes of its chunks, decode them, put the region together.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use voxel::{AnyVolume, Dtype, Element, Region, Volume, with_dtype, with_volume};

use super::Array;
use super::cache::{ChunkCache, ChunkKey, Raw, ShardIndex, Slot, Wanted};
use super::metadata::Shards;
use crate::store::Version;
use crate::{Error, Result};

/// Objects that one fetch asks for at once. A bucket answers each in tens of milliseconds, so this many keep a line
/// of a gigabit busy with chunks of some hundred kilobytes.
const OBJECTS_IN_FLIGHT: usize = 16;

/// Reads of a shard that is being rewritten underneath, before the store is called unavailable.
const SHARD_ATTEMPTS: usize = 3;

/// The chunks of a region, brought here but not all decoded yet.
#[derive(Debug)]
pub struct Fetched {
    array: Array,
    cache: ChunkCache,
    region: Region,
    parts: Vec<Part>,
    /// Chunks of the region that the store doesn't have: they read as the fill value.
    pub missing: usize,
    /// All chunks of the region.
    pub chunks: usize,
}

#[derive(Debug)]
struct Part {
    /// Grid index along z, y, x.
    index: [u64; 3],
    slot: Arc<Slot>,
}

impl Array {
    /// Brings the raw bytes of the chunks that `region` touches, but for those the cache has. The region is in voxels of
    /// the image (z, y, x) and must lie within it. Inner chunks of a shard that lie side by side come in one request; a
    /// chunk that others are fetching is waited for.
    ///
    /// # Errors
    /// A missing chunk is no error; a read that is denied or fails is, of the kind the store gives it. Data when the
    /// index of a shard is damaged. Internal when the region is empty or reaches beyond the image.
    pub async fn fetch(&self, cache: &ChunkCache, region: Region) -> Result<Fetched> {
        if region.is_empty() || !self.extent().region().contains(&region) {
            return Err(Error::internal(format!("{region:?} was asked of {} of {:?}", self.url(), self.extent())));
        }
        let part = |index| {
            let slot = cache.slot(self.key(index));
            slot.note_read();
            Part { index, slot }
        };
        let parts: Vec<Part> = self.chunks_of(region).map(part).collect();

        // Whoever gets a chunk's lock fetches it. All that are ours are fetched before any of another's is waited
        // for, so two fetches can't wait for each other; and one that fails or is dropped just unlocks.
        let mut ours: BTreeMap<[u64; 3], Vec<(&Part, _)>> = BTreeMap::new();
        let mut others = Vec::new();
        for part in parts.iter().filter(|part| !part.slot.is_fetched()) {
            match part.slot.fetching.try_lock() {
                Ok(lock) if !part.slot.is_fetched() => {
                    ours.entry(self.object_of(part.index)).or_default().push((part, lock));
                }
                Ok(_) => {}
                Err(_) => others.push(part),
            }
        }
        let fetches: Vec<_> = ours
            .into_iter()
            .map(async |(object, locked)| {
                let parts: Vec<&Part> = locked.iter().map(|(part, _)| *part).collect();
                self.fetch_object(cache, object, &parts).await
            })
            .collect();
        futures::stream::iter(fetches).buffer_unordered(OBJECTS_IN_FLIGHT).try_collect::<()>().await?;
        for part in others {
            let _lock = part.slot.fetching.lock().await;
            if !part.slot.is_fetched() {
                self.fetch_object(cache, self.object_of(part.index), &[part]).await?;
            }
        }
        let missing = parts.iter().filter(|part| part.slot.is_missing()).count();
        Ok(Fetched { array: self.clone(), cache: cache.clone(), region, chunks: parts.len(), missing, parts })
    }

    /// Says that [`Array::fetch`] will be called for `region` soon, which may lie within the image or not: what is on a disk may
    /// be at hand by then. Of shards, which may be large and of which little may be wanted, nothing is said.
    pub(crate) fn want_soon(&self, cache: &ChunkCache, region: Region) {
        if self.0.metadata.shards.is_none() {
            for index in self.chunks_of(region).filter(|index| !cache.knows(&self.key(*index))) {
                self.store().want_soon(&self.0.metadata.key(&self.stored(index, &self.0.metadata.object)));
            }
        }
    }

    /// Grid indices of the chunks that a region touches, in C order.
    fn chunks_of(&self, region: Region) -> impl Iterator<Item = [u64; 3]> {
        let chunk = self.chunk();
        let [zs, ys, xs]: [Range<u64>; 3] =
            std::array::from_fn(|a| (region.start[a] / chunk[a]) as u64..region.end[a].div_ceil(chunk[a]) as u64);
        zs.flat_map(move |z| {
            let xs = xs.clone();
            ys.clone().flat_map(move |y| xs.clone().map(move |x| [z, y, x]))
        })
    }

    /// Fetches `parts`, which are in the object with grid index `object`.
    async fn fetch_object(&self, cache: &ChunkCache, object: [u64; 3], parts: &[&Part]) -> Result<()> {
        let key = self.0.metadata.key(&self.stored(object, &self.0.metadata.object));
        let Some(shards) = &self.0.metadata.shards else {
            let found = self.store().get_at_most(&key, self.0.metadata.chain.encoded_max()).await?;
            for part in parts {
                let (raw, version) = match &found {
                    Some(found) => (Raw::Bytes(found.bytes.clone()), Some(found.version.clone())),
                    None => (Raw::Missing, None),
                };
                cache.fetched(&self.key(part.index), &part.slot, raw, version);
            }
            return Ok(());
        };
        for _ in 0..SHARD_ATTEMPTS {
            if self.fetch_inner(cache, shards, object, &key, parts).await? {
                return Ok(());
            }
        }
        Err(Error::unavailable(format!(
            "{} is rewritten again and again while it is being read",
            self.store().display(&key)
        )))
    }

    /// Fetches chunks of one shard; false when the shard was replaced between its index and its chunks.
    async fn fetch_inner(
        &self,
        cache: &ChunkCache,
        shards: &Shards,
        object: [u64; 3],
        key: &str,
        parts: &[&Part],
    ) -> Result<bool> {
        let index = self.shard_index(cache, shards, object, key).await?;
        let ShardIndex::Entries { entries, version, size } = &*index else {
            for part in parts {
                cache.fetched(&self.key(part.index), &part.slot, Raw::Missing, None);
            }
            return Ok(true);
        };
        let mut wanted = Vec::new();
        let mut ranges = Vec::new();
        for part in parts {
            match self.entry(shards, entries, part.index) {
                (u64::MAX, u64::MAX) => {
                    cache.fetched(&self.key(part.index), &part.slot, Raw::Missing, Some(version.clone()));
                }
                (offset, len) => match offset.checked_add(len).filter(|end| end <= size) {
                    Some(end) => {
                        wanted.push(*part);
                        ranges.push(offset..end);
                    }
                    None => {
                        let why = format!("the shard has {size} bytes, the chunk {len} from byte {offset} on");
                        return Err(self.damaged(part.index, &why));
                    }
                },
            }
        }
        if wanted.is_empty() {
            return Ok(true);
        }
        match self.store().get_ranges(key, &ranges).await? {
            Some((bytes, read)) if read == *version => {
                for (part, bytes) in wanted.iter().zip(bytes) {
                    cache.fetched(&self.key(part.index), &part.slot, Raw::Bytes(bytes), Some(read.clone()));
                }
                Ok(true)
            }
            // Written again, perhaps with the same bytes by a task done twice: start over from its index.
            _ => {
                cache.forget_index(&self.key(object), &cache.index(self.key(object)));
                Ok(false)
            }
        }
    }

    /// The index of a shard, read once.
    async fn shard_index(
        &self,
        cache: &ChunkCache,
        shards: &Shards,
        object: [u64; 3],
        key: &str,
    ) -> Result<Arc<ShardIndex>> {
        let slot = cache.index(self.key(object));
        let mut index = slot.lock().await;
        if let Some(index) = &*index {
            return Ok(Arc::clone(index));
        }
        let read = match shards.index_at_start {
            true => self.store().get_range(key, 0..shards.index_len).await?,
            false => self.store().get_suffix(key, shards.index_len).await?,
        };
        let read = match read {
            None => ShardIndex::Missing,
            Some(found) => {
                let damaged = |why: String| {
                    Error::data(format!("the shard index of {} (key {key}) can't be decoded: {why}", self.url()))
                };
                if (found.bytes.len() as u64) < shards.index_len {
                    let why = format!("the shard has {} bytes, its index {}", found.bytes.len(), shards.index_len);
                    return Err(damaged(why));
                }
                let bytes = shards.index.decode(&found.bytes).map_err(damaged)?;
                ShardIndex::Entries { entries: u64::from_ne(bytes), version: found.version, size: found.size }
            }
        };
        let read = Arc::new(read);
        *index = Some(Arc::clone(&read));
        drop(index);
        let bytes = if let ShardIndex::Entries { entries, .. } = &*read { size_of_val(&entries[..]) } else { 0 };
        cache.weigh_index(&self.key(object), slot, bytes);
        Ok(read)
    }

    /// Offset and length of a chunk in its shard.
    fn entry(&self, shards: &Shards, entries: &[u64], index: [u64; 3]) -> (u64, u64) {
        let within = self.stored(index, &self.0.metadata.chunk);
        let at = within.iter().zip(&shards.chunks).fold(0, |at, (i, n)| at * n + i % n) as usize;
        match entries.get(2 * at..2 * at + 2) {
            Some([offset, len]) => (*offset, *len),
            _ => (u64::MAX, 0),
        }
    }

    /// What tells a chunk from those of other arrays.
    fn key(&self, index: [u64; 3]) -> ChunkKey {
        (self.0.id, index)
    }

    /// The voxels of a chunk, those beyond the image included. Never overflows: the image has a voxel in it, and chunks are
    /// bounded.
    fn region_of(&self, index: [u64; 3]) -> Region {
        let shape = self.0.axes.spatial.map(|axis| axis.map_or(1, |axis| self.0.metadata.chunk[axis] as usize));
        Region::new(std::array::from_fn(|a| index[a] as usize * shape[a]), shape)
    }

    /// Grid index of the object that holds a chunk.
    fn object_of(&self, chunk: [u64; 3]) -> [u64; 3] {
        let Some(shards) = &self.0.metadata.shards else { return chunk };
        std::array::from_fn(|a| self.0.axes.spatial[a].map_or(0, |axis| chunk[a] / shards.chunks[axis]))
    }

    /// Keys of the objects that hold voxels of `region`, relative to the array, whether they are there or not.
    pub(crate) fn keys_in(&self, region: Region) -> impl Iterator<Item = String> + '_ {
        let object = self.shard().unwrap_or_else(|| self.chunk());
        let along = |a: usize| region.start[a] / object[a].max(1)..region.end[a].div_ceil(object[a].max(1));
        let [zs, ys, xs] = [along(0), along(1), along(2)];
        let indices = zs.flat_map(move |z| {
            let xs = xs.clone();
            ys.clone().flat_map(move |y| xs.clone().map(move |x| [z as u64, y as u64, x as u64]))
        });
        let metadata = &self.0.metadata;
        indices.map(|index| metadata.key(&self.stored(index, &metadata.object)))
    }

    /// Grid index along the stored axes of cells of shape `cell`, from that along z, y, x.
    fn stored(&self, index: [u64; 3], cell: &[u64]) -> Vec<u64> {
        let mut stored = vec![0; cell.len()];
        for (axis, i) in self.0.axes.spatial.iter().zip(index) {
            if let Some(axis) = axis {
                stored[*axis] = i;
            }
        }
        for (axis, at) in &self.0.axes.fixed {
            stored[*axis] = at / cell[*axis];
        }
        stored
    }

    /// The error of a chunk that can't be read, by all its names.
    fn damaged(&self, index: [u64; 3], why: &str) -> Error {
        let metadata = &self.0.metadata;
        let chunk = self.stored(index, &metadata.chunk);
        let key = metadata.key(&self.stored(self.object_of(index), &metadata.object));
        Error::data(format!("chunk {chunk:?} of {} (key {key}) can't be decoded: {why}", self.url()))
    }

    /// The part of a chunk that is in the image, at the picked channel and time.
    fn decode_chunk(&self, index: [u64; 3], raw: &[u8]) -> Result<AnyVolume> {
        let metadata = &self.0.metadata;
        let mut bytes = metadata.chain.decode(raw).map_err(|why| self.damaged(index, &why))?;
        if bytes.len() as u64 != metadata.chunk_bytes() {
            let why = format!("it has {} bytes unpacked, {} were expected", bytes.len(), metadata.chunk_bytes());
            return Err(self.damaged(index, &why));
        }
        let mut shape = metadata.chunk.clone();
        for (axis, at) in &self.0.axes.fixed {
            if shape[*axis] > 1 {
                bytes = Cow::Owned(sliced(&bytes, &shape, metadata.dtype.size(), *axis, at % shape[*axis]));
                shape[*axis] = 1;
            }
        }
        let region = self.region_of(index);
        let volume = with_dtype!(metadata.dtype, T => AnyVolume::from(Volume::new(region, T::from_ne(bytes))));
        Ok(match region.intersection(&self.extent().region()) {
            Some(inside) => volume.into_cropped(inside),
            None => volume,
        })
    }
}

impl Fetched {
    /// The region that will be decoded.
    pub fn region(&self) -> Region {
        self.region
    }

    /// Missing chunks of which `part` holds the first voxel at or beyond `from`: where parts make up a whole that begins
    /// at `from`, each of its missing chunks is counted in exactly one of them.
    pub(crate) fn missing_in(&self, part: Region, from: [usize; 3]) -> usize {
        let first_inside = |index: [u64; 3]| {
            let chunk = self.array.region_of(index);
            let first: [usize; 3] = std::array::from_fn(|a| chunk.start[a].max(from[a]));
            (0..3).all(|a| (part.start[a]..part.end[a]).contains(&first[a]))
        };
        self.parts.iter().filter(|part| part.slot.is_missing() && first_inside(part.index)).count()
    }

    /// An object that the store doesn't have; its key is relative to the array. One that is there may lack chunks.
    pub(crate) fn absent(&self) -> Option<String> {
        let metadata = &self.array.0.metadata;
        let absent = |part: &&Part| part.slot.is_missing() && part.slot.version().is_none();
        let part = self.parts.iter().find(absent)?;
        Some(metadata.key(&self.array.stored(self.array.object_of(part.index), &metadata.object)))
    }

    /// The objects it was read from, each with the state it had then; keys are relative to the array. Objects that
    /// are not there are not listed.
    pub fn versions(&self) -> Vec<(String, Version)> {
        let mut versions: Vec<(String, Version)> = Vec::new();
        let mut seen: BTreeMap<[u64; 3], Vec<Version>> = BTreeMap::new();
        for part in &self.parts {
            let Some(version) = part.slot.version() else { continue };
            let object = self.array.object_of(part.index);
            let known = seen.entry(object).or_default();
            // Two states of one object, when it was replaced between two reads, are both told.
            if !known.contains(&version) {
                known.push(version.clone());
                let metadata = &self.array.0.metadata;
                versions.push((metadata.key(&self.array.stored(object, &metadata.object)), version));
            }
        }
        versions
    }

    /// Decodes the region's voxels. Work for a processor, not for an async thread.
    ///
    /// # Errors
    /// Data when a chunk is damaged, naming it.
    pub fn decode(self) -> Result<AnyVolume> {
        let mut canvas = Canvas::new(self.array.dtype(), self.region);
        self.decode_into(&mut canvas, &|_| Wanted::BY_ANYBODY)?;
        Ok(canvas.into_image())
    }

    /// Decodes the chunks that nobody has decoded yet and puts the region's voxels in their place. Work for a processor,
    /// not for an async thread; waits for chunks that another thread is decoding. `wanted` says of a chunk, by the voxels
    /// it covers, who else reads it: fetched so often, it is kept no longer.
    ///
    /// # Errors
    /// Data when a chunk is damaged, naming it. Internal when the canvas has another element type.
    pub(crate) fn decode_into(self, canvas: &mut Canvas, wanted: &dyn Fn(Region) -> Wanted) -> Result<()> {
        let Fetched { array, cache, parts, .. } = self;
        for part in parts {
            part.decode(&array, &cache, wanted)?;
            let Part { index, slot } = part;
            let covers = array.region_of(index);
            match Arc::try_unwrap(slot).map(Slot::into_voxels) {
                Ok(Some(voxels)) => canvas.give(voxels)?,
                Ok(None) => canvas.fill(covers, array.fill()),
                Err(slot) => match slot.voxels() {
                    Some(voxels) => canvas.paste(voxels)?,
                    None => canvas.fill(covers, array.fill()),
                },
            }
        }
        cache.trim();
        Ok(())
    }

    /// [`Fetched::decode_into`], for who wants the chunks one by one, in C order: the voxels of each that lie in the image, and
    /// its bytes as they lie in the store where they are still at hand; neither of one that the store doesn't have.
    pub(crate) fn decode_each(
        self,
        wanted: &dyn Fn(Region) -> Wanted,
        mut each: impl FnMut(Region, Option<(AnyVolume, Option<Bytes>)>) -> Result<()>,
    ) -> Result<()> {
        let Fetched { array, cache, parts, .. } = self;
        for part in parts {
            let raw = part.slot.raw();
            part.decode(&array, &cache, wanted)?;
            let Part { index, slot } = part;
            let covers = array.region_of(index);
            let covers = covers.intersection(&array.extent().region()).unwrap_or(covers);
            let voxels = match Arc::try_unwrap(slot) {
                Ok(slot) => slot.into_voxels(),
                Err(slot) => slot.voxels().cloned(),
            };
            each(covers, voxels.map(|voxels| (voxels, raw)))?;
        }
        cache.trim();
        Ok(())
    }
}

impl Part {
    /// Makes the chunk's voxels, if nobody has yet, and settles how long they are kept.
    fn decode(&self, array: &Array, cache: &ChunkCache, wanted: &dyn Fn(Region) -> Wanted) -> Result<()> {
        let Part { index, slot } = self;
        let key = array.key(*index);
        let decoded = slot.decode(|raw| {
            let voxels = array.decode_chunk(*index, raw)?;
            cache.weigh(&key, slot, voxels.region().voxels() * voxels.dtype().size());
            Ok(voxels)
        });
        let Wanted { readers, next } = wanted(array.region_of(*index));
        match decoded.is_err() || slot.reads() >= readers {
            true => cache.forget(&key, slot),
            false => cache.wanted(&key, slot, next),
        }
        decoded
    }
}

/// Index `at` along `axis` of a C-order array of `shape`, with that axis left at length one.
fn sliced(bytes: &[u8], shape: &[u64], element: usize, axis: usize, at: u64) -> Vec<u8> {
    let product = |lens: &[u64]| lens.iter().product::<u64>() as usize;
    let run = product(&shape[axis + 1..]) * element;
    let (len, at) = (shape[axis] as usize, at as usize);
    let mut out = Vec::with_capacity(product(&shape[..axis]) * run);
    for outer in bytes.chunks_exact(len * run) {
        out.extend_from_slice(&outer[at * run..(at + 1) * run]);
    }
    out
}

/// An image that chunks are put into: there from the first chunk on, which may be all of it.
pub(crate) struct Canvas {
    dtype: Dtype,
    region: Region,
    image: Option<AnyVolume>,
}

impl Canvas {
    /// For the voxels of `region`, which are 0 where nothing is put.
    pub(crate) fn new(dtype: Dtype, region: Region) -> Self {
        Self { dtype, region, image: None }
    }

    pub(crate) fn into_image(self) -> AnyVolume {
        self.image.unwrap_or_else(|| AnyVolume::zeros(self.dtype, self.region))
    }

    fn image(&mut self) -> &mut AnyVolume {
        self.image.get_or_insert_with(|| AnyVolume::zeros(self.dtype, self.region))
    }

    /// Takes the voxels that are in the image from a chunk that nobody else needs.
    fn give(&mut self, chunk: AnyVolume) -> Result<()> {
        if self.image.is_none() && chunk.region() == self.region && chunk.dtype() == self.dtype {
            self.image = Some(chunk);
            return Ok(());
        }
        self.paste(&chunk)
    }

    /// Copies the voxels that are in the image from a chunk.
    fn paste(&mut self, chunk: &AnyVolume) -> Result<()> {
        fn rows<T: Copy + Default>(image: &mut Volume<T>, chunk: &Volume<T>) {
            let Some(both) = image.region.intersection(&chunk.region) else { return };
            let columns = |region: Region| both.start[2] - region.start[2]..both.end[2] - region.start[2];
            for z in both.start[0]..both.end[0] {
                for y in both.start[1]..both.end[1] {
                    let (to, from) = (columns(image.region), columns(chunk.region));
                    image.row_mut(z, y)[to].copy_from_slice(&chunk.row(z, y)[from]);
                }
            }
        }
        macro_rules! of_one_type {
            ($($variant:ident)*) => {
                match (self.image(), chunk) {
                    $((AnyVolume::$variant(image), AnyVolume::$variant(chunk)) => rows(image, chunk),)*
                    (image, chunk) => {
                        return Err(Error::internal(format!("a {} chunk in a {} image", chunk.dtype(), image.dtype())));
                    }
                }
            };
        }
        of_one_type!(Bool U8 I8 U16 I16 U32 I32 U64 I64 F32 F64);
        Ok(())
    }

    /// Sets the voxels of `part` that are in the image to one value.
    fn fill(&mut self, part: Region, value: &[u8]) {
        fn rows<T: Element>(image: &mut Volume<T>, part: Region, value: &[u8]) {
            let Some(value) = T::from_ne(Cow::Borrowed(value)).first().copied() else { return };
            let columns = part.start[2] - image.region.start[2]..part.end[2] - image.region.start[2];
            for z in part.start[0]..part.end[0] {
                for y in part.start[1]..part.end[1] {
                    image.row_mut(z, y)[columns.clone()].fill(value);
                }
            }
        }
        let Some(part) = part.intersection(&self.region) else { return };
        if value.iter().any(|byte| *byte != 0) {
            with_volume!(self.image(), image => rows(image, part, value));
        }
    }
}
