//! Rows on their way through the merge: written in pages sorted by key, read back as many at a time as there is room for,
//! and merged from many files at once without holding more of each. There are two kinds, of objects and of contacts.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bytes::Bytes;
use voxel::contacts::Contact;
use voxel::exact_sum::Kind;
use voxel::table::ObjectRow;

use crate::Result;
use crate::scratch::{Reader, Tag, Writer, decode_u64s, encode_u64s};

/// Rows in a page. Small, since a merge of thousands of files holds a page of each; one of few files reads several with
/// one request.
pub(crate) const PAGE_ROWS: usize = 64;

/// What pages hold.
pub(crate) trait Row: Sized {
    /// What must be known to read one.
    type Kind: Copy;

    /// What ranges are cut by.
    fn key(&self) -> u64;

    /// What rows of one key are ordered by.
    fn second_key(&self) -> u64;

    /// Length of what [`Row::encode`] appends.
    fn bytes(kind: Self::Kind) -> usize;

    /// Appends the row.
    fn encode(&self, kind: Self::Kind, out: &mut Vec<u8>);

    /// The inverse of [`Row::encode`].
    fn decode(kind: Self::Kind, bytes: &[u8]) -> Option<Self>;
}

impl Row for ObjectRow {
    type Kind = Option<Kind>;

    fn key(&self) -> u64 {
        self.key
    }

    fn second_key(&self) -> u64 {
        0
    }

    fn bytes(kind: Option<Kind>) -> usize {
        Self::bytes(kind)
    }

    fn encode(&self, kind: Option<Kind>, out: &mut Vec<u8>) {
        self.encode(kind, out);
    }

    fn decode(kind: Option<Kind>, bytes: &[u8]) -> Option<Self> {
        Self::decode(kind, bytes)
    }
}

impl Row for Contact {
    type Kind = ();

    fn key(&self) -> u64 {
        self.a
    }

    fn second_key(&self) -> u64 {
        self.b
    }

    fn bytes((): ()) -> usize {
        4 * 8
    }

    fn encode(&self, (): (), out: &mut Vec<u8>) {
        out.extend([self.a, self.b, self.faces, self.pairs].iter().flat_map(|n| n.to_le_bytes()));
    }

    fn decode((): (), bytes: &[u8]) -> Option<Self> {
        let [a, b, faces, pairs] = decode_u64s(bytes).try_into().ok()?;
        Some(Self { a, b, faces, pairs })
    }
}

/// Writes sorted rows as the pages of one section kind of a scratch object.
pub(crate) struct PageWriter<R: Row> {
    tag: Tag,
    kind: R::Kind,
    page: Vec<u8>,
    rows: u64,
    first_keys: Vec<u64>,
    last_key: u64,
}

/// What a [`PageWriter`] wrote.
pub(crate) struct Pages {
    /// Rows in all.
    pub(crate) rows: u64,
    /// The key of each page's first row, and after them the key of the last row.
    pub(crate) keys: Vec<u64>,
}

impl<R: Row> PageWriter<R> {
    /// Starts writing rows, with this kind of intensity, as sections `tag`.
    pub(crate) fn new(tag: Tag, kind: R::Kind) -> Self {
        Self { tag, kind, page: Vec::new(), rows: 0, first_keys: Vec::new(), last_key: 0 }
    }

    /// Adds a row, whose key is not smaller than the one before.
    pub(crate) async fn push(&mut self, row: &R, to: &mut Writer) -> Result<()> {
        if self.rows.is_multiple_of(PAGE_ROWS as u64) {
            self.flush(to).await?;
            self.first_keys.push(row.key());
        }
        row.encode(self.kind, &mut self.page);
        self.rows += 1;
        self.last_key = row.key();
        Ok(())
    }

    /// Writes the rows so far, after which only other sections may follow.
    pub(crate) async fn flush(&mut self, to: &mut Writer) -> Result<()> {
        if !self.page.is_empty() {
            to.section(self.tag, self.first_keys.len() as u64 - 1, &self.page).await?;
            self.page.clear();
        }
        Ok(())
    }

    /// Writes the last page.
    pub(crate) async fn finish(mut self, to: &mut Writer) -> Result<Pages> {
        self.flush(to).await?;
        let mut keys = self.first_keys;
        keys.extend((self.rows > 0).then_some(self.last_key));
        Ok(Pages { rows: self.rows, keys })
    }
}

/// Writes a section with the keys of a file's closed pages, for [`RowFile`].
pub(crate) async fn write_closed_keys(pages: &Pages, to: &mut Writer) -> Result<()> {
    to.section(Tag::ClosedKeys, 0, &encode_u64s(&pages.keys)).await
}

/// Decodes a page.
pub(crate) fn decode_page<R: Row>(page: &[u8], kind: R::Kind, file: &Reader) -> Result<Vec<R>> {
    let size = R::bytes(kind);
    if !page.len().is_multiple_of(size) {
        return Err(file.damaged("a page of rows has a part of a row"));
    }
    let row = |bytes| R::decode(kind, bytes).ok_or_else(|| file.damaged("a row can't be decoded"));
    page.chunks_exact(size).map(row).collect()
}

/// The closed rows of one contributor with keys in a range: some pages as they were read, and the rows of one.
pub(crate) struct RowFile<R: Row> {
    file: Reader,
    kind: R::Kind,
    low: u64,
    high: Option<u64>,
    next_page: u64,
    pages: u64,
    /// Pages that one request reads.
    at_once: u64,
    read: std::vec::IntoIter<Bytes>,
    page: std::vec::IntoIter<R>,
    /// Number, within the contributor's closed rows, of the first row at or above `low`.
    pub(crate) first_row: u64,
}

impl<R: Row> RowFile<R> {
    /// Opens the closed rows of `file` with `low <= key`, and `key < high` where there is an upper end, and reads the
    /// first of `at_once` pages at a time.
    pub(crate) async fn open(file: Reader, kind: R::Kind, low: u64, high: Option<u64>, at_once: u64) -> Result<Self> {
        let mut keys = decode_u64s(&file.require(Tag::ClosedKeys, 0).await?);
        keys.pop();
        // The page before the first that starts above `low` may hold rows at `low` or above; with equal keys on both
        // sides of a page's edge, the one before it too.
        let next_page = keys.partition_point(|k| *k < low).saturating_sub(1) as u64;
        let pages = keys.partition_point(|k| high.is_none_or(|high| *k < high)) as u64;
        let first_row = next_page * PAGE_ROWS as u64;
        let (read, page) = (Vec::new().into_iter(), Vec::new().into_iter());
        let mut this = Self { file, kind, low, high, next_page, pages, at_once, read, page, first_row };
        this.skip_below().await?;
        Ok(this)
    }

    async fn load(&mut self) -> Result<bool> {
        if self.read.len() == 0 && self.next_page < self.pages {
            let end = self.pages.min(self.next_page + self.at_once.max(1));
            self.read = self.file.require_all(Tag::Closed, self.next_page..end).await?.into_iter();
            self.next_page = end;
        }
        let Some(bytes) = self.read.next() else { return Ok(false) };
        self.page = decode_page(&bytes, self.kind, &self.file)?.into_iter();
        Ok(true)
    }

    async fn skip_below(&mut self) -> Result<()> {
        loop {
            while let Some(row) = self.page.as_slice().first() {
                if row.key() >= self.low {
                    return Ok(());
                }
                self.page.next();
                self.first_row += 1;
            }
            if !self.load().await? {
                return Ok(());
            }
        }
    }

    /// The next row of the range.
    pub(crate) async fn next(&mut self) -> Result<Option<R>> {
        while self.page.len() == 0 {
            if !self.load().await? {
                return Ok(None);
            }
        }
        Ok(self.page.next().filter(|row| self.high.is_none_or(|high| row.key() < high)))
    }
}

/// Merges row files by key.
pub(crate) struct RowMerge<R: Row> {
    files: Vec<RowFile<R>>,
    heads: Vec<Option<R>>,
    heap: BinaryHeap<Reverse<(u64, u64, usize)>>,
}

impl<R: Row> RowMerge<R> {
    /// Starts a merge.
    pub(crate) async fn new(mut files: Vec<RowFile<R>>) -> Result<Self> {
        let (mut heads, mut heap) = (Vec::with_capacity(files.len()), BinaryHeap::with_capacity(files.len()));
        for (i, file) in files.iter_mut().enumerate() {
            let head = file.next().await?;
            heap.extend(head.as_ref().map(|row| Reverse((row.key(), row.second_key(), i))));
            heads.push(head);
        }
        Ok(Self { files, heads, heap })
    }

    /// The row with the smallest keys, and which file it came from (ties: the first file).
    pub(crate) async fn next(&mut self) -> Result<Option<(usize, R)>> {
        let Some(Reverse((_, _, i))) = self.heap.pop() else { return Ok(None) };
        let next = self.files[i].next().await?;
        self.heap.extend(next.as_ref().map(|row| Reverse((row.key(), row.second_key(), i))));
        Ok(std::mem::replace(&mut self.heads[i], next).map(|row| (i, row)))
    }
}

#[cfg(test)]
mod tests;
