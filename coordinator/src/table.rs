//! `voxmill table`: the object table of a run as text, a row at a time.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use pipeline::{Error, Result, layout};

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
pub fn table(output: &str, name: &str, format: Format, to: &mut dyn Write) -> Result<()> {
    let path = find(output, name)?;
    let unreadable = |e: &dyn std::fmt::Display| Error::data(format!("{} can't be read: {e}", path.display()));
    let file = File::open(&path).map_err(|e| Error::invalid(format!("{} can't be read: {e}", path.display())))?;
    let reader = SerializedFileReader::new(file).map_err(|e| unreadable(&e))?;
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

/// A writer to the file `path` under a temporary name, and the function that gives it its own.
///
/// # Errors
/// Invalid when the file can't be made.
pub fn to_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let partial = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let unwritable = |e: std::io::Error| Error::invalid(format!("{} can't be written: {e}", path.display()));
    let mut file = BufWriter::new(File::create(&partial).map_err(unwritable)?);
    let done = write(&mut file).and_then(|()| {
        file.flush().map_err(unwritable)?;
        std::fs::rename(&partial, path).map_err(unwritable)
    });
    if done.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    done
}

/// The file that holds a table.
fn find(output: &str, name: &str) -> Result<PathBuf> {
    if output.contains("://") && !output.starts_with("file://") {
        return Err(Error::invalid(format!("{output} is not on a disk, and a table is read from one"))
            .hint("copy the .parquet file here first"));
    }
    let given = PathBuf::from(output.strip_prefix("file://").unwrap_or(output));
    if given.is_file() {
        return Ok(given);
    }
    let file = if name == "objects" { layout::OBJECTS.to_owned() } else { format!("{name}.parquet") };
    let path = given.join(&file);
    if path.is_file() {
        return Ok(path);
    }
    let mut there: Vec<String> = std::fs::read_dir(&given)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".parquet").map(str::to_owned))
        .collect();
    there.sort();
    let error = Error::invalid(format!("there is no table {file} in {output}"));
    Err(match there.is_empty() {
        true => error.hint("a job with a label or objects step leaves one, when it is finished: voxmill status"),
        false => error.hint(format!("there is --name {}", there.join(", --name "))),
    })
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
