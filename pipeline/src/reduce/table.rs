//! Tables as Parquet: row groups encoded from the ranges they overlap, then streamed into one file.
//!
//! Row groups have a fixed number of rows and ranges don't, so a row group gathers from as many ranges as it overlaps,
//! a few columns at a time, and encodes two of them side by side. Each is a file of its own in the scratch until the last task copies the encoded columns, byte
//! for byte, into the table.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use parquet::basic::{Compression, ZstdLevel};
use parquet::column::writer::{ColumnCloseResult, ColumnWriter, get_column_writer};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr, WriterVersion};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::writer::{SerializedFileWriter, SerializedPageWriter, TrackedWrite};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{ColumnDescPtr, TypePtr};
use tokio::runtime::Handle;
use voxel::table::{ColumnData, ColumnType};

use super::contacts;
use super::rank::column_batch;
use crate::op::Op;
use crate::plan::memory::{BATCH_ROWS, COLUMNS_AT_ONCE, columns_at_once};
use crate::plan::{Plan, Rows, TableId};
use crate::scratch::{Reader, Tag};
use crate::state::State;
use crate::store::{Store, Upload, Uploaded};
use crate::task::Written;
use crate::{Error, Result, layout};

/// Names and types of a table's columns.
fn columns(plan: &Plan, table: TableId) -> Result<Vec<(&'static str, ColumnType)>> {
    match table.of {
        Rows::Contacts => Ok(contacts::columns(plan.labels_dtype(table.step))),
        Rows::Objects => {
            let columns = plan.columns(table.step);
            let columns = columns.ok_or_else(|| Error::internal("a table is written that nobody asked for"))?;
            Ok(columns.columns().iter().map(|column| (column.name, column.kind)).collect())
        }
    }
}

/// Encodes row group `group` of a table into the scratch of its stage.
pub(crate) async fn encode_group(
    store: &Store,
    plan: &Plan,
    state: &State,
    table: TableId,
    group: u64,
    ahead_bytes: u64,
) -> Result<()> {
    let stage = plan.table_stage(table);
    let ranked = state.ranked(table).ok_or_else(|| Error::internal("a table is encoded before it was ranked"))?;
    let all = state.rows(table).unwrap_or(0);
    let rows = group * plan.merge.group_rows..((group + 1) * plan.merge.group_rows).min(all);
    let mut parts = Vec::new();
    // The last range that starts at or before the first row, and all that start before the last.
    let first = ranked.bases.partition_point(|base| *base <= rows.start).saturating_sub(1);
    for (range, bounds) in ranked.bases.windows(2).enumerate().skip(first) {
        let (start, end) = (rows.start.max(bounds[0]), rows.end.min(bounds[1]));
        if bounds[0] >= rows.end {
            break;
        }
        if start < end {
            let file = Reader::open(store, &layout::scratch(plan.rank_stage(table), range as u64)).await?;
            parts.push((file, bounds[0], start - bounds[0]..end - bounds[0]));
        }
    }
    let columns = columns(plan, table)?;
    // Labels are ranks within their range so far, but for those that were given.
    let ranks = table.of == Rows::Objects && !matches!(plan.ops.get(table.step), Some(Op::Objects { .. }));
    let mut out = Streamed::create(store, &layout::scratch(stage, group), &columns).await?;
    let (described, properties) = (out.writer.schema_descr().columns().to_vec(), out.writer.properties().clone());
    let mut writer = out.writer.next_row_group().map_err(failed)?;
    let at_once = columns_at_once(plan.merge.group_rows, ahead_bytes);
    let mut gathered = Vec::new().into_iter();
    let mut encoding = FuturesOrdered::new();
    for (i, (described, (_, kind))) in described.into_iter().zip(&columns).enumerate() {
        if gathered.len() == 0 {
            let next = &columns[i..columns.len().min(i + at_once)];
            let room =
                |(_, kind): &(_, ColumnType)| Vec::with_capacity((rows.end - rows.start) as usize * width(*kind));
            let mut more: Vec<Vec<u8>> = next.iter().map(room).collect();
            for (file, base, rows) in &parts {
                let from = more[0].len();
                gather(file, i, next, rows.clone(), &mut more).await?;
                if i == 0 && ranks {
                    for label in more[0][from..].chunks_exact_mut(8) {
                        let rank = u64::from_le_bytes(std::array::from_fn(|b| label[b]));
                        label.copy_from_slice(&(rank + base).to_le_bytes());
                    }
                }
            }
            gathered = more.into_iter();
        }
        let bytes = gathered.next().ok_or_else(|| Error::internal("a column is missing"))?;
        let (kind, properties) = (*kind, Arc::clone(&properties));
        encoding.push_back(tokio::spawn(async move { encode_column(described, properties, kind, bytes) }));
        while encoding.len() >= COLUMNS_AT_ONCE || (i + 1 == columns.len() && !encoding.is_empty()) {
            let Some(encoded) = encoding.next().await else { break };
            let (encoded, close) =
                encoded.map_err(|e| Error::internal(format!("a column was not encoded to its end: {e}")))??;
            writer.append_column(&encoded, close).map_err(failed)?;
            Streamed::drain(&out.buffer, &mut out.upload).await?;
        }
    }
    writer.close().map_err(failed)?;
    out.finish().await?;
    Ok(())
}

/// A column chunk from the bytes of its values, and what the footer says of it.
fn encode_column(
    described: ColumnDescPtr,
    properties: WriterPropertiesPtr,
    kind: ColumnType,
    bytes: Vec<u8>,
) -> Result<(Bytes, ColumnCloseResult)> {
    let values = ColumnData::decode(kind, &bytes)
        .ok_or_else(|| Error::internal(format!("column {} can't be decoded", described.name())))?;
    drop(bytes);
    let mut pages = TrackedWrite::new(Vec::new());
    let mut column = get_column_writer(described, properties, Box::new(SerializedPageWriter::new(&mut pages)));
    match (&mut column, &values) {
        (ColumnWriter::Int64ColumnWriter(to), ColumnData::I64(values)) => to.write_batch(values, None, None),
        (ColumnWriter::Int64ColumnWriter(to), ColumnData::U64(values)) => {
            let bits: Vec<i64> = values.iter().map(|v| v.cast_signed()).collect();
            to.write_batch(&bits, None, None)
        }
        (ColumnWriter::DoubleColumnWriter(to), ColumnData::F64(values)) => to.write_batch(values, None, None),
        (ColumnWriter::BoolColumnWriter(to), ColumnData::Bool(values)) => to.write_batch(values, None, None),
        _ => return Err(Error::internal("a column has another type than its values")),
    }
    .map_err(failed)?;
    let close = column.close().map_err(failed)?;
    Ok((pages.into_inner().map_err(failed)?.into(), close))
}

/// Bytes of a value in a range's columns.
fn width(kind: ColumnType) -> usize {
    if kind == ColumnType::Bool { 1 } else { 8 }
}

/// Appends the bytes of some rows of neighbouring columns of a range, the first of which is number `first`.
async fn gather(
    file: &Reader,
    first: usize,
    columns: &[(&'static str, ColumnType)],
    rows: std::ops::Range<u64>,
    to: &mut [Vec<u8>],
) -> Result<()> {
    let batch_rows = BATCH_ROWS as u64;
    for batch in rows.start / batch_rows..rows.end.div_ceil(batch_rows) {
        let sections = (first..first + columns.len()).map(|column| column_batch(column, batch));
        let read = file.require_all(Tag::Column, sections).await?;
        let before = batch * batch_rows;
        let (start, end) = (rows.start.max(before) - before, rows.end.min(before + batch_rows) - before);
        for ((bytes, (_, kind)), to) in read.iter().zip(columns).zip(&mut *to) {
            let part = bytes.get(start as usize * width(*kind)..end as usize * width(*kind));
            to.extend_from_slice(part.ok_or_else(|| file.damaged("a column is shorter than its range"))?);
        }
    }
    Ok(())
}

/// Streams the row groups of a table into the file `key`.
pub(crate) async fn publish(store: &Store, plan: &Plan, state: &State, table: TableId, key: &str) -> Result<Written> {
    let stage = plan.table_stage(table);
    let groups = state.rows(table).unwrap_or(0).div_ceil(plan.merge.group_rows);
    let mut out = Streamed::create(store, key, &columns(plan, table)?).await?;
    for group in 0..groups {
        let part = Part::open(store, layout::scratch(stage, group)).await?;
        let metadata = tokio::task::block_in_place(|| {
            ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional).parse_and_finish(&part)
        })
        .map_err(|e| {
            of_store(&e).unwrap_or_else(|| {
                Error::data(format!("the row group {} can't be read: {e}", store.display(&part.key)))
            })
        })?;
        let index = metadata.page_index();
        for (g, from) in metadata.row_groups().iter().enumerate() {
            let mut to = out.writer.next_row_group().map_err(failed)?;
            for (c, column) in from.columns().iter().enumerate() {
                let close = ColumnCloseResult {
                    bytes_written: column.compressed_size() as u64,
                    rows_written: from.num_rows() as u64,
                    metadata: column.clone(),
                    bloom_filter: None,
                    column_index: index.and_then(|i| i.column_index(g, c)).cloned(),
                    offset_index: index.and_then(|i| i.offset_index(g, c)).cloned(),
                };
                tokio::task::block_in_place(|| to.append_column(&part, close)).map_err(failed)?;
                Streamed::drain(&out.buffer, &mut out.upload).await?;
            }
            to.close().map_err(failed)?;
        }
    }
    let Uploaded { bytes, crc32c } = out.finish().await?;
    Ok(Written { key: key.to_owned(), bytes, crc32c })
}

fn failed(e: ParquetError) -> Error {
    of_store(&e).unwrap_or_else(|| Error::internal(format!("the object table can't be encoded: {e}")))
}

/// The store's own error, on its way through the Parquet reader: what is unavailable for a moment is tried again.
fn of_store(e: &ParquetError) -> Option<Error> {
    let ParquetError::External(cause) = e else { return None };
    if let Some(error) = cause.downcast_ref::<Error>() {
        return Some(error.clone());
    }
    cause.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref::<Error>().cloned()
}

fn schema(columns: &[(&str, ColumnType)]) -> Result<TypePtr> {
    let field = |(name, kind): &(&str, ColumnType)| match kind {
        ColumnType::U64 => format!("required int64 {name} (INTEGER(64,false));"),
        ColumnType::I64 => format!("required int64 {name};"),
        ColumnType::F64 => format!("required double {name};"),
        ColumnType::Bool => format!("required boolean {name};"),
    };
    let fields: Vec<String> = columns.iter().map(field).collect();
    let schema = parse_message_type(&format!("message objects {{ {} }}", fields.join(" "))).map_err(failed)?;
    Ok(Arc::new(schema))
}

/// A Parquet file on its way to the store: the encoder fills a buffer, which is sent off after every column.
struct Streamed {
    writer: SerializedFileWriter<Buffer>,
    buffer: Buffer,
    upload: Upload,
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().map_err(|_| std::io::Error::other("the encoder stopped half way"))?.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Streamed {
    async fn create(store: &Store, key: &str, columns: &[(&str, ColumnType)]) -> Result<Self> {
        /// Small and quick to read; higher levels gain little on numbers.
        const ZSTD_LEVEL: i32 = 1;
        let level = ZstdLevel::try_new(ZSTD_LEVEL).map_err(failed)?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_writer_version(WriterVersion::PARQUET_1_0)
            .set_dictionary_enabled(false)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_created_by(format!("voxmill {}", env!("CARGO_PKG_VERSION")))
            .build();
        let buffer = Buffer::default();
        let writer = SerializedFileWriter::new(buffer.clone(), schema(columns)?, Arc::new(properties));
        Ok(Self { writer: writer.map_err(failed)?, buffer, upload: store.upload(key).await? })
    }

    async fn drain(buffer: &Buffer, upload: &mut Upload) -> Result<()> {
        let bytes = match buffer.0.lock() {
            Ok(mut bytes) => std::mem::take(&mut *bytes),
            Err(_) => return Err(Error::internal("the encoder stopped half way")),
        };
        upload.write(&bytes).await
    }

    async fn finish(mut self) -> Result<Uploaded> {
        self.writer.close().map_err(failed)?;
        Self::drain(&self.buffer, &mut self.upload).await?;
        self.upload.finish().await
    }
}

/// A file in the store, as the Parquet reader wants it: synchronous, so only within `block_in_place`.
struct Part {
    store: Store,
    key: String,
    size: u64,
}

impl Part {
    async fn open(store: &Store, key: String) -> Result<Self> {
        let tail = store.get_suffix(&key, 1).await?;
        let size = tail.map(|t| t.size).ok_or_else(|| Error::data(format!("{} is missing", store.display(&key))))?;
        Ok(Self { store: store.clone(), key, size })
    }

    fn range(&self, start: u64, length: usize) -> Result<Bytes> {
        let range = start..start + length as u64;
        let object = Handle::current().block_on(self.store.get_range(&self.key, range))?;
        object.map(|o| o.bytes).ok_or_else(|| Error::data(format!("{} is missing", self.store.display(&self.key))))
    }
}

impl Length for Part {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Part {
    type T = PartReader;

    fn get_read(&self, start: u64) -> parquet::errors::Result<PartReader> {
        let part = Self { store: self.store.clone(), key: self.key.clone(), size: self.size };
        Ok(PartReader { part, at: start, ahead: Bytes::new() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        self.range(start, length).map_err(|e| ParquetError::External(Box::new(e)))
    }
}

/// Reads on from a place in a [`Part`], a megabyte at a time.
struct PartReader {
    part: Part,
    at: u64,
    ahead: Bytes,
}

impl Read for PartReader {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        const AHEAD_BYTES: u64 = 1 << 20;
        if self.ahead.is_empty() && self.at < self.part.size {
            let length = AHEAD_BYTES.min(self.part.size - self.at) as usize;
            self.ahead = self.part.range(self.at, length).map_err(std::io::Error::other)?;
            self.at += self.ahead.len() as u64;
        }
        let n = to.len().min(self.ahead.len());
        to[..n].copy_from_slice(&self.ahead.split_to(n));
        Ok(n)
    }
}
