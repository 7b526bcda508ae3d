//! The container of everything tasks leave for one another: named sections, each with a checksum, in one object.
//!
//! ```text
//! section bytes ... | table: (tag:u32 crc:u32 index:u64 offset:u64 length:u64)* | footer
//! footer: table offset:u64, table length:u64, table crc:u32, version:u32, "VXMS"
//! ```
//! All numbers are little-endian, checksums are CRC-32C. The table stands last, so that sections can be written as they
//! are made, and a reader needs one request for the tail and one for each section it wants, or for a row of them that lie
//! side by side. What the sections hold is the business of [`map`](crate::map) and [`reduce`](crate::reduce).

use std::ops::Range;

use bytes::Bytes;

use crate::store::{Object, Store, Upload};
use crate::{Error, Result};

const MAGIC: &[u8; 4] = b"VXMS";
const VERSION: u32 = 1;
const ENTRY_BYTES: usize = 32;
const FOOTER_BYTES: usize = 28;
/// Bytes asked for at the end of an object; the table of most objects fits.
const TAIL_BYTES: u64 = 16 << 10;

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub(crate) enum Tag {
    /// A block's labels as runs.
    Runs = 1,
    /// The open object numbers on one face of a block; the index is the face.
    Plane = 2,
    /// A page of rows that are complete, by key.
    Closed = 3,
    /// A page of rows that may go on beyond the block or group, by key.
    Open = 4,
    /// The first key of every page of closed rows.
    ClosedKeys = 5,
    /// Which open object of the block or group each open label of a block has become.
    Aliases = 6,
    /// Pairs of touching labels that meet at a level of the tree; the index is the level.
    Pairs = 7,
    /// A child's open objects as numbers of its group; the index is the child.
    ChildMap = 8,
    /// The parts of row files that make up a range; the index is the range.
    Sources = 9,
    /// A column of the finished rows of a range; the index is the column.
    Column = 10,
    /// Ranks within the range of one contributor's rows; the index is the contributor.
    Ranks = 11,
    /// How many objects have each size.
    Sizes = 12,
    /// A child's open objects as final labels; the index is the child.
    Finals = 13,
    /// A page of records that did not fit in memory.
    Records = 14,
    /// A partial histogram of the input (0) or of the value a barrier waits for (1).
    Tally = 15,
    /// How many closed rows, open rows and aliases there are.
    Counts = 16,
}

impl Tag {
    /// All of them.
    pub(crate) const ALL: [Tag; 16] = [
        Tag::Runs,
        Tag::Plane,
        Tag::Closed,
        Tag::Open,
        Tag::ClosedKeys,
        Tag::Aliases,
        Tag::Pairs,
        Tag::ChildMap,
        Tag::Sources,
        Tag::Column,
        Tag::Ranks,
        Tag::Sizes,
        Tag::Finals,
        Tag::Records,
        Tag::Tally,
        Tag::Counts,
    ];
}

#[derive(Clone, Copy)]
struct Entry {
    tag: u32,
    crc: u32,
    index: u64,
    offset: u64,
    length: u64,
}

impl Entry {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.tag.to_le_bytes());
        out.extend_from_slice(&self.crc.to_le_bytes());
        for n in [self.index, self.offset, self.length] {
            out.extend_from_slice(&n.to_le_bytes());
        }
    }

    /// The inverse of [`Entry::encode`].
    fn decode(e: &[u8]) -> Self {
        let [index, offset, length] = [8, 16, 24].map(|at| u64_at(e, at));
        Self { tag: u32_at(e, 0), crc: u32_at(e, 4), index, offset, length }
    }
}

/// Writes one scratch object, section by section. Nothing is visible before [`Writer::finish`].
pub(crate) struct Writer {
    upload: Upload,
    offset: u64,
    table: Vec<Entry>,
}

impl Writer {
    /// Starts the object `key`.
    pub(crate) async fn create(store: &Store, key: &str) -> Result<Self> {
        Ok(Self { upload: store.upload(key).await?, offset: 0, table: Vec::new() })
    }

    /// Adds a section; `(tag, index)` names it and is used once in an object.
    pub(crate) async fn section(&mut self, tag: Tag, index: u64, bytes: &[u8]) -> Result<()> {
        let (offset, length) = (self.offset, bytes.len() as u64);
        self.table.push(Entry { tag: tag as u32, crc: crc32c::crc32c(bytes), index, offset, length });
        self.offset += length;
        self.upload.write(bytes).await
    }

    /// Writes the table and publishes the object. Gives its size in bytes.
    pub(crate) async fn finish(mut self) -> Result<u64> {
        self.table.sort_by_key(|e| (e.tag, e.index));
        let mut tail = Vec::with_capacity(self.table.len() * ENTRY_BYTES + FOOTER_BYTES);
        self.table.iter().for_each(|e| e.encode(&mut tail));
        let (length, crc) = (tail.len() as u64, crc32c::crc32c(&tail));
        tail.extend_from_slice(&self.offset.to_le_bytes());
        tail.extend_from_slice(&length.to_le_bytes());
        tail.extend_from_slice(&crc.to_le_bytes());
        tail.extend_from_slice(&VERSION.to_le_bytes());
        tail.extend_from_slice(MAGIC);
        self.upload.write(&tail).await?;
        self.upload.finish().await?;
        Ok(self.offset + tail.len() as u64)
    }
}

/// Reads one scratch object. Every section is checked against its checksum before anyone sees it.
pub(crate) struct Reader {
    store: Store,
    key: String,
    table: Vec<Entry>,
    /// The end of the object, as far as it was read with the table: small sections need no request of their own.
    tail: Bytes,
    tail_offset: u64,
}

impl Reader {
    /// Reads the table of the object `key`.
    ///
    /// # Errors
    /// Data when the object is missing, damaged or of another version.
    pub(crate) async fn open(store: &Store, key: &str) -> Result<Self> {
        let tail = store.get_suffix(key, TAIL_BYTES).await?;
        Self::with_end(store, key, tail).await
    }

    /// Reads all of the object `key` at once, for who wants all of its sections.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub(crate) async fn whole(store: &Store, key: &str) -> Result<Self> {
        let whole = store.get(key).await?;
        Self::with_end(store, key, whole).await
    }

    /// The object of which this is the end.
    async fn with_end(store: &Store, key: &str, end: Option<Object>) -> Result<Self> {
        let damaged = |why: &str| damaged(store, key, why);
        let Object { bytes, size, .. } = end.ok_or_else(|| damaged("it is missing"))?;
        let footer = bytes.len().checked_sub(FOOTER_BYTES).ok_or_else(|| damaged("it is too short"))?;
        if &bytes[footer + 24..] != MAGIC {
            return Err(damaged("its end is not that of a scratch object"));
        }
        if u32_at(&bytes, footer + 20) != VERSION {
            return Err(damaged("another version of voxmill wrote it"));
        }
        let (offset, length) = (u64_at(&bytes, footer), u64_at(&bytes, footer + 8));
        let crc = u32_at(&bytes, footer + 16);
        let table_end = size - FOOTER_BYTES as u64;
        if offset.checked_add(length) != Some(table_end) || length % ENTRY_BYTES as u64 != 0 {
            return Err(damaged("its table can't be where it says"));
        }
        let table = if (length as usize) <= footer {
            bytes.slice(footer - length as usize..footer)
        } else {
            range(store, key, offset..table_end).await?
        };
        if crc32c::crc32c(&table) != crc {
            return Err(damaged("its table fails its checksum"));
        }
        let table: Vec<Entry> = table.chunks_exact(ENTRY_BYTES).map(Entry::decode).collect();
        let inside = |e: &Entry| e.offset.checked_add(e.length).is_some_and(|end| end <= offset);
        let ascending = table.windows(2).all(|pair| (pair[0].tag, pair[0].index) < (pair[1].tag, pair[1].index));
        if !ascending || !table.iter().all(inside) {
            return Err(damaged("its sections can't be where its table says"));
        }
        let tail_offset = size - bytes.len() as u64;
        Ok(Self { store: store.clone(), key: key.to_owned(), table, tail: bytes, tail_offset })
    }

    /// An entry's section has been seen to lie inside the object.
    fn find(&self, tag: Tag, index: u64) -> Option<Entry> {
        let at = self.table.binary_search_by_key(&(tag as u32, index), |e| (e.tag, e.index)).ok()?;
        Some(self.table[at])
    }

    /// The indices of all sections of one kind, ascending.
    pub(crate) fn indices(&self, tag: Tag) -> impl Iterator<Item = u64> + '_ {
        self.table.iter().filter(move |e| e.tag == tag as u32).map(|e| e.index)
    }

    /// The bytes of a section, or `None` when the object has no such section.
    pub(crate) async fn get(&self, tag: Tag, index: u64) -> Result<Option<Bytes>> {
        let Some(entry) = self.find(tag, index) else { return Ok(None) };
        Ok(self.read(tag, &[entry]).await?.pop())
    }

    /// The bytes of these sections, each against its checksum; what is not in the tail comes in one request as far as it
    /// lies side by side.
    async fn read(&self, tag: Tag, entries: &[Entry]) -> Result<Vec<Bytes>> {
        let apart = |e: &&Entry| e.offset < self.tail_offset;
        let ranges: Vec<Range<u64>> = entries.iter().filter(apart).map(|e| e.offset..e.offset + e.length).collect();
        let read = match ranges.is_empty() {
            true => Vec::new(),
            false => {
                let read = self.store.get_ranges(&self.key, &ranges).await?;
                read.ok_or_else(|| self.damaged("it is missing"))?.0
            }
        };
        let mut read = read.into_iter();
        let section = |e: &Entry| {
            let bytes = match e.offset.checked_sub(self.tail_offset) {
                Some(from) => self.tail.get(from as usize..(from + e.length) as usize).map(|s| self.tail.slice_ref(s)),
                None => read.next(),
            };
            bytes
                .filter(|bytes| bytes.len() as u64 == e.length && crc32c::crc32c(bytes) == e.crc)
                .ok_or_else(|| self.damaged(&format!("section {tag:?} {} fails its checksum", e.index)))
        };
        entries.iter().map(section).collect()
    }

    /// The length in bytes of a section; 0 when the object has none.
    pub(crate) fn length(&self, tag: Tag, index: u64) -> u64 {
        self.find(tag, index).map_or(0, |e| e.length)
    }

    /// The bytes of a section that must be there.
    pub(crate) async fn require(&self, tag: Tag, index: u64) -> Result<Bytes> {
        self.get(tag, index).await?.ok_or_else(|| self.lacks(tag, index))
    }

    /// The bytes of sections that must be there, in one request where they lie side by side.
    pub(crate) async fn require_all(&self, tag: Tag, indices: impl Iterator<Item = u64>) -> Result<Vec<Bytes>> {
        let entries: Result<Vec<Entry>> =
            indices.map(|index| self.find(tag, index).ok_or_else(|| self.lacks(tag, index))).collect();
        self.read(tag, &entries?).await
    }

    fn lacks(&self, tag: Tag, index: u64) -> Error {
        self.damaged(&format!("section {tag:?} {index} is missing"))
    }

    /// The error of an object that is not what its writer left.
    pub(crate) fn damaged(&self, why: &str) -> Error {
        damaged(&self.store, &self.key, why)
    }
}

async fn range(store: &Store, key: &str, range: Range<u64>) -> Result<Bytes> {
    let object = store.get_range(key, range).await?;
    object.map(|o| o.bytes).ok_or_else(|| damaged(store, key, "it is missing"))
}

fn damaged(store: &Store, key: &str, why: &str) -> Error {
    Error::data(format!("the scratch object {} can't be used: {why}", store.display(key)))
        .hint("run again with --overwrite to compute everything anew")
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

/// The object with all its checksums made right again, as far as sections and table are where they say: what a fuzzer
/// needs to get past them.
pub(crate) fn resealed(object: &[u8]) -> Option<Vec<u8>> {
    let mut object = object.to_vec();
    let footer = object.len().checked_sub(FOOTER_BYTES)?;
    let table = usize::try_from(u64_at(&object, footer)).ok().filter(|table| *table <= footer)?;
    let mut tail = Vec::new();
    for entry in object[table..footer].chunks_exact(ENTRY_BYTES) {
        let mut entry = Entry::decode(entry);
        let end = entry.offset.checked_add(entry.length).filter(|end| *end <= table as u64);
        if let Some(end) = end {
            entry.crc = crc32c::crc32c(&object[entry.offset as usize..end as usize]);
        }
        entry.encode(&mut tail);
    }
    let (length, crc) = (tail.len() as u64, crc32c::crc32c(&tail));
    object.truncate(table);
    object.extend_from_slice(&tail);
    object.extend_from_slice(&(table as u64).to_le_bytes());
    object.extend_from_slice(&length.to_le_bytes());
    object.extend_from_slice(&crc.to_le_bytes());
    object.extend_from_slice(&VERSION.to_le_bytes());
    object.extend_from_slice(MAGIC);
    Some(object)
}

/// Little-endian u64s in a section.
pub(crate) fn encode_u64s(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// The inverse of [`encode_u64s`]; trailing bytes that make no whole number are ignored.
pub(crate) fn decode_u64s(bytes: &[u8]) -> Vec<u64> {
    bytes.chunks_exact(8).map(|b| u64_at(b, 0)).collect()
}

#[cfg(test)]
mod tests;
