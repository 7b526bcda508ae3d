//! Fixed-size records sorted into buckets, in memory while they fit and beyond it in scratch objects.
//!
//! A reduce that may meet more than its memory splits its work by key into `count` buckets, handles one at a time, and
//! passes records on to the next step's buckets. With one bucket nothing ever leaves memory and the same code is
//! simply the in-memory algorithm.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bytes::Bytes;

use crate::Result;
use crate::scratch::{Reader, Tag, Writer};
use crate::store::Store;

/// Where a task puts what does not fit, and how much of it may stay in memory.
pub(crate) struct Overflow {
    store: Store,
    prefix: String,
    /// Buckets of every step; 1 means that everything stays in memory.
    pub(crate) count: usize,
    /// Bytes a bucket gathers before they are written out.
    flush_bytes: usize,
}

impl Overflow {
    /// Buckets for a task that expects to handle `estimate_bytes` and may hold `limit_bytes`; objects go below
    /// `prefix`.
    pub(crate) fn new(store: &Store, prefix: String, estimate_bytes: u64, limit_bytes: u64) -> Self {
        /// More buckets than this would make their buffers smaller than a useful object.
        const COUNT_MAX: u64 = 4096;
        let count = estimate_bytes.div_ceil(limit_bytes.max(1)).clamp(1, COUNT_MAX) as usize;
        // Two steps' buckets are open at once, and buffers may take half of the memory.
        let flush_bytes = (limit_bytes as usize / (4 * count)).max(1 << 10);
        Self { store: store.clone(), prefix, count, flush_bytes }
    }

    /// Empty buckets for records of `record_bytes`. `name` is used once in a task.
    pub(crate) fn buckets(&self, name: impl Into<String>, record_bytes: usize) -> Buckets<'_> {
        let buckets = (0..self.count).map(|_| Bucket::default()).collect();
        Buckets { home: self, name: name.into(), record_bytes, buckets }
    }

    /// Removes whatever was written out.
    pub(crate) async fn clear(&self) -> Result<()> {
        if self.count > 1 { self.store.delete_prefix(&self.prefix).await } else { Ok(()) }
    }

    fn key(&self, name: &str, bucket: usize, part: usize) -> String {
        format!("{}/{name}/{bucket:04}-{part:06}", self.prefix)
    }
}

#[derive(Default)]
struct Bucket {
    buffer: Vec<u8>,
    written_parts: usize,
    records: u64,
}

/// One step's records, by bucket.
pub(crate) struct Buckets<'a> {
    home: &'a Overflow,
    name: String,
    record_bytes: usize,
    buckets: Vec<Bucket>,
}

impl Buckets<'_> {
    /// Adds a record.
    pub(crate) async fn push(&mut self, bucket: usize, record: &[u8]) -> Result<()> {
        debug_assert_eq!(record.len(), self.record_bytes);
        let this = &mut self.buckets[bucket];
        this.buffer.extend_from_slice(record);
        this.records += 1;
        if self.home.count > 1 && this.buffer.len() >= self.home.flush_bytes {
            let key = self.home.key(&self.name, bucket, this.written_parts);
            let mut out = Writer::create(&self.home.store, &key).await?;
            out.section(Tag::Records, 0, &this.buffer).await?;
            out.finish().await?;
            this.buffer.clear();
            this.written_parts += 1;
        }
        Ok(())
    }

    /// Records in a bucket.
    pub(crate) fn len(&self, bucket: usize) -> u64 {
        self.buckets[bucket].records
    }

    /// Parts of a bucket, to be read one at a time with [`Buckets::part`].
    pub(crate) fn parts(&self, bucket: usize) -> usize {
        self.buckets[bucket].written_parts + 1
    }

    /// The bytes of one part: whole records, in the order they were pushed.
    pub(crate) async fn part(&self, bucket: usize, part: usize) -> Result<Bytes> {
        let this = &self.buckets[bucket];
        if part == this.written_parts {
            return Ok(Bytes::copy_from_slice(&this.buffer));
        }
        let key = self.home.key(&self.name, bucket, part);
        Reader::open(&self.home.store, &key).await?.require(Tag::Records, 0).await
    }

    /// Runs `each` on every record of a bucket.
    pub(crate) async fn for_each(&self, bucket: usize, mut each: impl FnMut(&[u8])) -> Result<()> {
        for part in 0..self.parts(bucket) {
            self.part(bucket, part).await?.chunks_exact(self.record_bytes).for_each(&mut each);
        }
        Ok(())
    }

    /// Starts reading all buckets as one sequence, sorted by the records' bytes (so records that are to be sorted open
    /// with their key in big-endian order). Every bucket must have been pushed in sorted order.
    pub(crate) async fn merge(&self) -> Result<Merged<'_>> {
        let mut merged = Merged { from: self, cursors: Vec::new(), heap: BinaryHeap::new() };
        for bucket in 0..self.buckets.len() {
            merged.cursors.push(Cursor { part: 0, bytes: Bytes::new(), at: 0 });
            merged.advance(bucket).await?;
        }
        Ok(merged)
    }
}

struct Cursor {
    part: usize,
    bytes: Bytes,
    at: usize,
}

/// Sorted buckets read as one sorted sequence; see [`Buckets::merge`].
pub(crate) struct Merged<'a> {
    from: &'a Buckets<'a>,
    cursors: Vec<Cursor>,
    heap: BinaryHeap<Reverse<(Bytes, usize)>>,
}

impl Merged<'_> {
    async fn advance(&mut self, bucket: usize) -> Result<()> {
        let cursor = &mut self.cursors[bucket];
        while cursor.at == cursor.bytes.len() {
            if cursor.part == self.from.parts(bucket) {
                return Ok(());
            }
            cursor.bytes = self.from.part(bucket, cursor.part).await?;
            (cursor.part, cursor.at) = (cursor.part + 1, 0);
        }
        let end = cursor.at + self.from.record_bytes;
        let record = cursor.bytes.slice(cursor.at..end);
        cursor.at = end;
        self.heap.push(Reverse((record, bucket)));
        Ok(())
    }

    /// The next record.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        let Some(Reverse((record, bucket))) = self.heap.pop() else { return Ok(None) };
        self.advance(bucket).await?;
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests;
