//! `voxmill table`: the object table of a run as text, a row at a time.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, FileReader, Length, SerializedFileReader};
use parquet::record::{Field, Row};
use pipeline::store::{Store, Stores};
use pipeline::{Error, Result, layout};
use tokio::runtime::Handle;

use crate::units;

/// Rows that are shown when only a look is wanted.
const HEAD_ROWS: usize = 10;

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The first rows, aligned, and how many there are.
    Head,
    /// Comma-separated values with a line of names (RFC 4180, but for the line ends).
    Csv,
    /// One JSON object on each line.
    JsonLines,
}

/// Writes the table `name` of the run in `output`, which may also be a Parquet file itself, to `to`.
///
/// # Errors
/// Invalid when there is no such table. Data when it is damaged. Unavailable when it can't be written on.
pub async fn table(stores: &Stores, output: &str, name: &str, format: Format, to: &mut dyn Write) -> Result<()> {
    let (store, key) = find(stores, output, name).await?;
    let url = store.display(&key);
    let size = store.size(&key).await?;
    let size = size.ok_or_else(|| Error::unavailable(format!("{url} was there, and is gone")))?;
    let object = Object { store, key, size };
    // Parquet is read by a library that blocks, and asks the object for its parts.
    tokio::task::block_in_place(|| write(object, &url, format, to))
}

fn write(object: Object, url: &str, format: Format, to: &mut dyn Write) -> Result<()> {
    let unreadable = |e: &dyn std::fmt::Display| Error::data(format!("{url} can't be read: {e}"));
    let reader = SerializedFileReader::new(object).map_err(|e| unreadable(&e))?;
    let schema = reader.metadata().file_metadata().schema();
    let columns: Vec<String> = schema.get_fields().iter().map(|field| field.name().to_owned()).collect();
    let total = reader.metadata().file_metadata().num_rows();
    let mut rows = reader.get_row_iter(None).map_err(|e| unreadable(&e))?;
    match format {
        Format::Head => {
            let head: Vec<Row> = rows.by_ref().take(HEAD_ROWS).collect::<Result<_, _>>().map_err(|e| unreadable(&e))?;
            written(write_head(to, &columns, &head, total))
        }
        Format::Csv => {
            let quoted: Vec<String> = columns.iter().map(|column| quoted(column)).collect();
            written(writeln!(to, "{}", quoted.join(",")))?;
            for row in rows {
                let row = row.map_err(|e| unreadable(&e))?;
                let values: Vec<String> = row.get_column_iter().map(|(_, value)| quoted_value(value)).collect();
                written(writeln!(to, "{}", values.join(",")))?;
            }
            written(to.flush())
        }
        Format::JsonLines => {
            for row in rows {
                written(writeln!(to, "{}", json_line(&row.map_err(|e| unreadable(&e))?)))?;
            }
            written(to.flush())
        }
    }
}

/// Where a table is written: a file under a temporary name, which [`TableFile::finish`] gives its own.
pub struct TableFile {
    path: PathBuf,
    partial: PathBuf,
    file: BufWriter<File>,
}

impl TableFile {
    /// Begins to write the file `path`.
    ///
    /// # Errors
    /// Invalid when the file can't be made.
    pub fn create(path: &Path) -> Result<Self> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let partial = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
        let file = File::create(&partial).map_err(|e| unwritable(path, &e))?;
        Ok(Self { path: path.to_owned(), partial, file: BufWriter::new(file) })
    }

    /// Ends it: whole, or not at all when `written` says that it failed.
    ///
    /// # Errors
    /// What the writing failed with, and Invalid when the file can't be put in its place.
    pub fn finish(mut self, written: Result<()>) -> Result<()> {
        let done = written.and_then(|()| {
            let placed = self.file.flush().and_then(|()| std::fs::rename(&self.partial, &self.path));
            placed.map_err(|e| unwritable(&self.path, &e))
        });
        if done.is_err() {
            let _ = std::fs::remove_file(&self.partial);
        }
        done
    }
}

impl Write for TableFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Error {
    Error::invalid(format!("{} can't be written: {error}", path.display()))
}

/// The object that holds a table.
async fn find(stores: &Stores, output: &str, name: &str) -> Result<(Store, String)> {
    let store = stores.open(output).await?;
    if store.is_object().await?
        && let Some(found) = store.parent()
    {
        return Ok(found);
    }
    let key = if name == "objects" { layout::OBJECTS.to_owned() } else { format!("{name}.parquet") };
    if store.exists(&key).await? {
        return Ok((store, key));
    }
    let error = Error::invalid(format!("there is no table {key} in {output}"));
    let objects = if store.can_list() { store.children("").await?.objects } else { Vec::new() };
    let there: Vec<&str> = objects.iter().filter_map(|object| object.strip_suffix(".parquet")).collect();
    Err(match there.is_empty() {
        true => error.hint("a job with a label or objects step leaves one, when it is finished: voxmill status"),
        false => error.hint(format!("there is --name {}", there.join(", --name "))),
    })
}

/// An object that is read in parts, on a thread of the runtime that may block.
#[derive(Clone)]
struct Object {
    store: Store,
    key: String,
    size: u64,
}

/// What is asked for at once where nobody says how much it will be.
const READ_AHEAD_BYTES: u64 = 256 << 10;

impl Object {
    fn read(&self, start: u64, length: u64) -> parquet::errors::Result<Bytes> {
        let end = self.size.min(start.saturating_add(length));
        let read = Handle::current().block_on(self.store.get_range(&self.key, start..end));
        match read {
            Ok(Some(object)) => Ok(object.bytes),
            Ok(None) => Err(ParquetError::General("it is gone".into())),
            Err(error) => Err(ParquetError::External(error.into())),
        }
    }
}

impl Length for Object {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Object {
    type T = Ahead;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Ahead> {
        Ok(Ahead { object: self.clone(), at: start, read: Bytes::new() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let bytes = self.read(start, length as u64)?;
        if bytes.len() == length { Ok(bytes) } else { Err(ParquetError::EOF("it ends too early".into())) }
    }
}

/// Reads on from somewhere in an object.
struct Ahead {
    object: Object,
    at: u64,
    read: Bytes,
}

impl Read for Ahead {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        if self.read.is_empty() {
            self.read = self.object.read(self.at, READ_AHEAD_BYTES).map_err(std::io::Error::other)?;
            self.at += self.read.len() as u64;
        }
        let now = self.read.split_to(to.len().min(self.read.len()));
        to[..now.len()].copy_from_slice(&now);
        Ok(now.len())
    }
}

fn written(outcome: std::io::Result<()>) -> Result<()> {
    outcome.map_err(|e| Error::unavailable(format!("the table can't be written: {e}")))
}

/// A value in as many digits as tell it from every other; nothing for one that is not there.
fn text(value: &Field) -> String {
    match value {
        Field::Null => String::new(),
        Field::Double(v) => format!("{v:?}"),
        Field::Float(v) => format!("{v:?}"),
        Field::Str(v) => v.clone(),
        other => other.to_string(),
    }
}

/// A row as a JSON object, its columns in order; numbers that JSON hasn't are null.
fn json_line(row: &Row) -> String {
    let string = |text: &str| serde_json::Value::from(text).to_string();
    let fields: Vec<String> = row
        .get_column_iter()
        .map(|(name, value)| {
            let value = match value {
                Field::Null => "null".to_owned(),
                Field::Double(v) if !v.is_finite() => "null".to_owned(),
                Field::Float(v) if !v.is_finite() => "null".to_owned(),
                Field::Str(v) => string(v),
                value => text(value),
            };
            format!("{}:{value}", string(name))
        })
        .collect();
    format!("{{{}}}", fields.join(","))
}

fn quoted_value(value: &Field) -> String {
    quoted(&text(value))
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// The first rows, a column for each line: there are more columns than fit side by side.
fn write_head(to: &mut dyn Write, columns: &[String], rows: &[Row], total: i64) -> std::io::Result<()> {
    let short = |value: &Field| match value {
        Field::Double(v) if v.fract() != 0.0 => format!("{v:.3}"),
        value => text(value),
    };
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| row.get_column_iter().map(|(_, value)| short(value)).collect()).collect();
    let name_width = columns.iter().map(String::len).max().unwrap_or(0);
    let width = cells.iter().flatten().map(String::len).max().unwrap_or(0);
    for (at, column) in columns.iter().enumerate() {
        let line: Vec<String> =
            cells.iter().map(|row| format!("{:>width$}", row.get(at).map_or("", String::as_str))).collect();
        writeln!(to, "{column:<name_width$}  {}", line.join("  "))?;
    }
    let total = units::count(total.max(0) as u64);
    writeln!(to, "{} of {total} rows, each a column here; all with --csv or --json", rows.len())
}
