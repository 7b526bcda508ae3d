//! Tables as Parquet: columns encoded from the ranges they overlap, then streamed into one file.
//!
//! Row groups have a fixed number of rows and ranges don't, so a unit gathers a few neighbouring columns of one row group
//! from as many ranges as that overlaps: most tables have one row group only, and all threads are to have a part in it.
//! What a unit encodes is a file of its own in the scratch until the last task copies the columns, byte for byte, into
//! the table.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use parquet::basic::{Compression, ZstdLevel};
use parquet::column::writer::{ColumnCloseResult, ColumnWriter, get_column_writer};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr, WriterVersion};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::writer::{SerializedFileWriter, SerializedPageWriter, TrackedWrite};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{ColumnDescPtr, TypePtr};
use voxel::table::{ColumnData, ColumnType};

use super::contacts;
use super::rank::column_batch;
use crate::op::Op;
use crate::plan::memory::{BATCH_ROWS, COLUMNS_OF_UNIT};
use crate::plan::{Plan, Rows, TableId};
use crate::scratch::{Reader, Tag};
use crate::state::State;
use crate::store::{Store, Upload, Uploaded};
use crate::task::{Written, wait_for};
use crate::{Error, Result, layout};

/// Names and types of a table's columns; none of a table that nobody asked for.
pub(crate) fn columns(plan: &Plan, table: TableId) -> Vec<(&'static str, ColumnType)> {
    match table.of {
        Rows::Contacts => contacts::columns(plan.labels_dtype(table.step)),
        Rows::Objects => {
            let columns = plan.columns(table.step);
            columns.iter().flat_map(|columns| columns.columns()).map(|column| (column.name, column.kind)).collect()
        }
    }
}

/// Units that encode a table of so many rows.
pub(crate) fn units(plan: &Plan, table: TableId, rows: u64) -> u64 {
    rows.div_ceil(plan.merge.group_rows.max(1)) * units_of_group(&columns(plan, table))
}

/// Units that encode a row group.
fn units_of_group(columns: &[(&str, ColumnType)]) -> u64 {
    columns.len().div_ceil(COLUMNS_OF_UNIT) as u64
}

/// Encodes the columns of unit `unit` of a table into the scratch of its stage.
pub(crate) async fn encode(store: &Store, plan: &Plan, state: &State, table: TableId, unit: u64) -> Result<()> {
    let ranked = state.ranked(table).ok_or_else(|| Error::internal("a table is encoded before it was ranked"))?;
    let all = columns(plan, table);
    let parts = units_of_group(&all);
    let (group, first) = (unit / parts.max(1), (unit % parts.max(1)) as usize * COLUMNS_OF_UNIT);
    let columns = &all[first..all.len().min(first + COLUMNS_OF_UNIT)];
    let mut out = Streamed::create(store, &layout::scratch(plan.table_stage(table), unit), columns).await?;
    let rows = group * plan.merge.group_rows
        ..((group + 1) * plan.merge.group_rows).min(ranked.bases.last().copied().unwrap_or(0));
    let room = |(_, kind): &(_, ColumnType)| Vec::with_capacity((rows.end - rows.start) as usize * width(*kind));
    let mut gathered: Vec<Vec<u8>> = columns.iter().map(room).collect();
    // Labels are ranks within their range so far, but for those that were given.
    let ranks =
        first == 0 && table.of == Rows::Objects && !matches!(plan.ops.get(table.step), Some(Op::Objects { .. }));
    // From the last range that starts at or before the first row to all that start before the last.
    let from = ranked.bases.partition_point(|base| *base <= rows.start).saturating_sub(1);
    for (range, bounds) in ranked.bases.windows(2).enumerate().skip(from) {
        let (base, start, end) = (bounds[0], rows.start.max(bounds[0]), rows.end.min(bounds[1]));
        if base >= rows.end {
            break;
        }
        if start < end {
            let file = Reader::open(store, &layout::scratch(plan.rank_stage(table), range as u64)).await?;
            let before = gathered[0].len();
            gather(&file, first, columns, start - base..end - base, &mut gathered).await?;
            if ranks {
                for label in gathered[0][before..].chunks_exact_mut(8) {
                    let rank = u64::from_le_bytes(std::array::from_fn(|b| label[b]));
                    label.copy_from_slice(&(rank + base).to_le_bytes());
                }
            }
        }
    }
    let (described, properties) = (out.writer.schema_descr().columns().to_vec(), out.writer.properties().clone());
    let mut writer = out.writer.next_row_group().map_err(failed)?;
    for ((described, (_, kind)), bytes) in described.into_iter().zip(columns).zip(gathered) {
        let (pages, close) =
            tokio::task::block_in_place(|| encode_column(described, Arc::clone(&properties), *kind, bytes))?;
        writer.append_column(&pages, close).map_err(failed)?;
        Streamed::drain(&out.buffer, &mut out.upload).await?;
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

/// Streams the columns of a table into the file `key`, row group by row group.
pub(crate) async fn publish(store: &Store, plan: &Plan, state: &State, table: TableId, key: &str) -> Result<Written> {
    let columns = columns(plan, table);
    let parts = units_of_group(&columns);
    let units = units(plan, table, state.rows(table).unwrap_or(0));
    let mut out = Streamed::create(store, key, &columns).await?;
    for group in 0..units / parts.max(1) {
        let mut to = out.writer.next_row_group().map_err(failed)?;
        for unit in group * parts..(group + 1) * parts {
            let part = Part::open(store, layout::scratch(plan.table_stage(table), unit)).await?;
            let metadata = part.metadata()?;
            let index = metadata.page_index();
            for (g, from) in metadata.row_groups().iter().enumerate() {
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
            }
        }
        to.close().map_err(failed)?;
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
        if columns.is_empty() {
            return Err(Error::internal("a table is written that nobody asked for"));
        }
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

    fn metadata(&self) -> Result<ParquetMetaData> {
        let read =
            || ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional).parse_and_finish(self);
        tokio::task::block_in_place(read).map_err(|e| {
            of_store(&e).unwrap_or_else(|| {
                Error::data(format!("the columns in {} can't be read: {e}", self.store.display(&self.key)))
            })
        })
    }

    fn range(&self, start: u64, length: usize) -> Result<Bytes> {
        let range = start..start + length as u64;
        let object = wait_for(self.store.get_range(&self.key, range))?;
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
