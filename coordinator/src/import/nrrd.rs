//! NRRD, attached (`.nrrd`) and detached (`.nhdr`), as <https://teem.sourceforge.net/nrrd/format.html> defines it: lines of
//! fields, an empty line, voxels with x running fastest.
//!
//! Images of two or three axes and one number per voxel; encodings raw, gzip, bzip2 and ascii.

use super::input::{Bytes, Input, Rest, from};
use super::layout::Layout;
use super::place::{Affine, Place};
use super::source::{Context, Source, c_order};
use pipeline::array::unit_name;
use pipeline::{Error, Result};
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use voxel::{Dtype, Element, Extent};

/// What a file begins with.
pub(super) const MAGIC: &[u8] = b"NRRD000";

/// No sensible header is longer.
const HEADER_BYTES_MAX: usize = 1 << 20;

/// The image whose header is at the beginning of `input`, which is `path`.
pub(super) fn open(path: &Path, mut input: Input, context: &Context) -> Result<Source> {
    context.reading.only_one(&input.name)?;
    let name = input.name.clone();
    let at = |error: Error| error.at(&name);
    let fields = Fields::read(&mut input)?;
    let axes = fields.axes().map_err(at)?;
    let layout = fields.layout(&axes).map_err(at)?;
    let (place, notes) = fields.place(&axes).map_err(at)?;
    let input = match fields.get(&["data file", "datafile"]) {
        None => input,
        Some(file) => Input::plain(&beside(path, file).map_err(at)?)?,
    };
    let mut source = fields.source(input, layout, context)?;
    source.place = place;
    source.notes = notes;
    Ok(source)
}

/// The file that a detached header names.
fn beside(header: &Path, file: &str) -> Result<PathBuf> {
    if file.starts_with("LIST") || file.contains('%') {
        return Err(
            Error::invalid("has its voxels in several files").hint("save it as one .nrrd, or import the slices")
        );
    }
    Ok(header.parent().unwrap_or(Path::new("")).join(file))
}

/// The fields of a header, by their names in lower case.
struct Fields(HashMap<String, String>);

/// An axis that is imported, by its number in the header.
struct Axis {
    number: usize,
    length: usize,
}

impl Fields {
    /// Reads up to the empty line, or to the end of a detached header.
    fn read(input: &mut Input) -> Result<Self> {
        let mut fields = HashMap::new();
        let mut line = Vec::new();
        let mut first = true;
        let mut byte = [0];
        loop {
            let more = input.start(&mut byte)? == 1;
            if more && byte[0] != b'\n' {
                line.push(byte[0]);
                if line.len() > HEADER_BYTES_MAX {
                    return Err(Error::data(format!("the header of {} has a line without end", input.name)));
                }
                continue;
            }
            let text = String::from_utf8_lossy(&line).trim().to_owned();
            if !first {
                if text.is_empty() {
                    break;
                }
                // Fields have a colon and a blank; `key:=value` is the user's own.
                let field = text.split_once(": ").filter(|(field, _)| !text.starts_with('#') && !field.contains(":="));
                if let Some((field, value)) = field {
                    fields.insert(field.trim().to_lowercase(), value.trim().to_owned());
                }
            }
            first = false;
            line.clear();
            if !more || input.position() > HEADER_BYTES_MAX as u64 {
                break;
            }
        }
        Ok(Self(fields))
    }

    fn get(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.0.get(*name)).map(String::as_str)
    }

    fn need(&self, name: &str) -> Result<&str> {
        self.get(&[name]).ok_or_else(|| Error::data(format!("the header has no field `{name}`")))
    }

    /// A whole number, 0 where the field is left out.
    fn number(&self, names: &[&str]) -> Result<i64> {
        let Some(text) = self.get(names) else { return Ok(0) };
        text.parse().map_err(|_| Error::data(format!("the header's `{}` is `{text}`, not a number", names[0])))
    }

    /// The axes of the image: those of space, fastest first, without others of length 1.
    fn axes(&self) -> Result<Vec<Axis>> {
        let sizes = self.need("sizes")?;
        let lengths: Result<Vec<usize>, _> = sizes.split_whitespace().map(str::parse).collect();
        let lengths = lengths.map_err(|_| Error::data(format!("the header's `sizes` are `{sizes}`, not numbers")))?;
        if usize::try_from(self.number(&["dimension"])?) != Ok(lengths.len()) {
            let dimension = self.need("dimension")?;
            return Err(Error::data(format!("the header has {} sizes for dimension {dimension}", lengths.len())));
        }
        if lengths.contains(&0) {
            return Err(Error::data(format!("has no voxels: its sizes are {sizes}")));
        }
        let kinds: Vec<&str> = self.get(&["kinds"]).unwrap_or_default().split_whitespace().collect();
        let directions = self.directions()?;
        let spatial = |axis: usize| {
            let kind = kinds.get(axis).is_none_or(|kind| SCALAR_KINDS.contains(&kind.to_lowercase().as_str()));
            kind && directions.get(axis).is_none_or(Option::is_some)
        };
        let mut axes: Vec<Axis> =
            lengths.iter().enumerate().map(|(number, length)| Axis { number, length: *length }).collect();
        axes.retain(|axis| axis.length > 1 || spatial(axis.number));
        while axes.len() > 3 {
            let Some(last) = axes.iter().rposition(|axis| axis.length == 1) else { break };
            axes.remove(last);
        }
        let component = axes.iter().find(|axis| !spatial(axis.number));
        if let Some(axis) = component {
            let kind = kinds.get(axis.number).copied().unwrap_or("none");
            return Err(Error::invalid(format!(
                "has {} values per voxel (axis {} is of kind {kind}), and a volume has one",
                axis.length,
                axis.number + 1
            ))
            .hint("save one component of it on its own"));
        }
        if !(2..=3).contains(&axes.len()) {
            return Err(Error::invalid(format!("has {} axes ({sizes}), and images have two or three", axes.len()))
                .hint("save one component or time point of it on its own"));
        }
        Ok(axes)
    }

    fn layout(&self, axes: &[Axis]) -> Result<Layout> {
        let extent = match axes {
            [x, y] => Extent { shape: [1, y.length, x.length], planar: true },
            [x, y, z] => Extent { shape: [z.length, y.length, x.length], planar: false },
            _ => return Err(Error::internal("an image has neither two nor three axes")),
        };
        let dtype = match self.need("type")?.to_lowercase().as_str() {
            "signed char" | "int8" | "int8_t" => Dtype::I8,
            "uchar" | "unsigned char" | "uint8" | "uint8_t" => Dtype::U8,
            "short" | "short int" | "signed short" | "signed short int" | "int16" | "int16_t" => Dtype::I16,
            "ushort" | "unsigned short" | "unsigned short int" | "uint16" | "uint16_t" => Dtype::U16,
            "int" | "signed int" | "int32" | "int32_t" => Dtype::I32,
            "uint" | "unsigned int" | "uint32" | "uint32_t" => Dtype::U32,
            "longlong"
            | "long long"
            | "long long int"
            | "signed long long"
            | "signed long long int"
            | "int64"
            | "int64_t" => Dtype::I64,
            "ulonglong" | "unsigned long long" | "unsigned long long int" | "uint64" | "uint64_t" => Dtype::U64,
            "float" => Dtype::F32,
            "double" => Dtype::F64,
            other => {
                return Err(Error::invalid(format!("holds voxels of type {other}, which is not read"))
                    .hint("integers of 8 to 64 bits, float and double are read"));
            }
        };
        let swapped = match self.get(&["endian"]).map(str::to_lowercase).as_deref() {
            // Numbers in words come in this machine's order, whatever the header says of bytes.
            _ if self.encoding()? == Encoding::Ascii => false,
            Some("little") => cfg!(target_endian = "big"),
            Some("big") => cfg!(target_endian = "little"),
            None if dtype.size() == 1 => false,
            None => return Err(Error::data("the header has no field `endian`")),
            Some(other) => return Err(Error::data(format!("the header's `endian` is `{other}`"))),
        };
        Ok(c_order(extent, dtype, swapped))
    }

    fn encoding(&self) -> Result<Encoding> {
        match self.need("encoding")?.to_lowercase().as_str() {
            "raw" => Ok(Encoding::Raw),
            "txt" | "text" | "ascii" => Ok(Encoding::Ascii),
            "gz" | "gzip" => Ok(Encoding::Gzip),
            "bz2" | "bzip2" => Ok(Encoding::Bzip2),
            other => Err(Error::invalid(format!("has encoding {other}, which is not read"))
                .hint("save it with raw, gzip, bzip2 or ascii")),
        }
    }

    /// The voxels, which begin in `input` after lines and bytes that are to be skipped.
    fn source(&self, mut input: Input, layout: Layout, context: &Context) -> Result<Source> {
        let name = input.name.clone();
        let at = |error: Error| error.at(&name);
        let encoding = self.encoding().map_err(at)?;
        for _ in 0..self.number(&["line skip", "lineskip"]).map_err(at)? {
            let mut byte = [0];
            while input.start(&mut byte)? == 1 && byte[0] != b'\n' {}
            if byte[0] != b'\n' {
                return Err(Error::data(format!("{name} has fewer lines than its header skips")));
            }
        }
        let skip = self.number(&["byte skip", "byteskip"]).map_err(at)?;
        let bytes = layout.bytes(&name)?;
        let skip = match u64::try_from(skip) {
            Ok(skip) => skip,
            // The voxels are then the last bytes of the file, however many come before.
            Err(_) if skip == -1 && encoding == Encoding::Raw => {
                input.room.saturating_sub(input.position()).saturating_sub(bytes)
            }
            Err(_) => return Err(Error::data(format!("{name}: the header's `byte skip` is {skip}"))),
        };
        if encoding == Encoding::Raw {
            return Source::new(input, layout, skip, context);
        }
        let room = match encoding {
            Encoding::Gzip => {
                input.room.saturating_sub(input.position()).saturating_mul(super::input::DEFLATE_RATIO_MAX)
            }
            // A number and a blank for each voxel.
            Encoding::Ascii => {
                input.room.saturating_sub(input.position()).div_ceil(2).saturating_mul(layout.dtype.size() as u64)
            }
            _ => u64::MAX,
        };
        let packed: Bytes = match input.rest(0)? {
            Rest::Place(path, start) => Box::new(from(&path, start)?),
            Rest::Stream(reader) => reader,
        };
        let reader: Bytes = match encoding {
            Encoding::Gzip => Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(packed))),
            Encoding::Bzip2 => Box::new(bzip2::read::MultiBzDecoder::new(packed)),
            _ => {
                let mut packed = BufReader::new(packed);
                // Here bytes are those of the text.
                io::copy(&mut packed.by_ref().take(skip), &mut io::sink())
                    .map_err(|error| super::input::unpacking(&name, &error))?;
                Box::new(Numbers { text: packed, dtype: layout.dtype, ready: Vec::new(), at: 0 })
            }
        };
        let skip = if encoding == Encoding::Ascii { 0 } else { skip };
        // bzip2 puts blocks of up to 900 kB in order, in somewhat over four times that.
        let takes = if encoding == Encoding::Bzip2 { 4 << 20 } else { 0 };
        Ok(Source::new(Input::stream(name, reader, room), layout, skip, context)?.takes(takes))
    }

    /// The vectors of `space directions`, by axis; `None` for those that are not axes of space.
    fn directions(&self) -> Result<Vec<Option<Vec<f64>>>> {
        let Some(text) = self.get(&["space directions"]) else { return Ok(Vec::new()) };
        let wrong = || Error::data(format!("the header's `space directions` are `{text}`"));
        let mut rest = text.trim();
        let mut found = Vec::new();
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix("none") {
                found.push(None);
                rest = after.trim_start();
            } else {
                let (inside, after) = rest.strip_prefix('(').and_then(|r| r.split_once(')')).ok_or_else(wrong)?;
                let vector: Vec<f64> =
                    inside.split(',').map(|v| v.trim().parse()).collect::<Result<_, _>>().map_err(|_| wrong())?;
                // A vector of NaN means the same as none.
                found.push((!vector.iter().all(|v| v.is_nan())).then_some(vector));
                rest = after.trim_start();
            }
        }
        Ok(found)
    }

    fn place(&self, axes: &[Axis]) -> Result<(Place, Vec<String>)> {
        let mut place = Place::default();
        let mut notes = Vec::new();
        let directions = self.directions()?;
        let vectors: Option<Vec<&Vec<f64>>> =
            axes.iter().map(|axis| directions.get(axis.number).and_then(Option::as_ref)).collect();
        let steps: Vec<f64> = match &vectors {
            Some(vectors) => vectors.iter().map(|v| v.iter().map(|x| x * x).sum::<f64>().sqrt()).collect(),
            None => {
                let spacings: Vec<f64> = self
                    .get(&["spacings"])
                    .unwrap_or_default()
                    .split_whitespace()
                    .map(|v| v.parse().unwrap_or(f64::NAN))
                    .collect();
                axes.iter().map(|axis| spacings.get(axis.number).copied().unwrap_or(f64::NAN)).collect()
            }
        };
        let good = |v: f64| if v.is_finite() && v != 0.0 { v.abs() } else { 1.0 };
        if steps.iter().any(|v| v.is_finite() && *v != 0.0) {
            place.spacing = Some(std::array::from_fn(|axis| steps.get(2 - axis).map_or(1.0, |v| good(*v))));
        }
        let space = self.get(&["space"]).unwrap_or("unknown");
        place.unit = self.unit(axes, vectors.is_some(), &mut notes);
        if place.unit.is_none() && vectors.is_some() && !matches!(space, "unknown") {
            // Where a space is a patient's, other programs take millimetres for granted.
            if !space.contains("3D") {
                place.unit = Some("millimeter".to_owned());
                notes.push(format!("the file names no unit; in the space {space} it is taken to be the millimeter"));
            }
        }
        let origin: Vec<f64> = self
            .get(&["space origin"])
            .map(|text| {
                text.trim_matches(['(', ')']).split(',').map(|v| v.trim().parse().unwrap_or(f64::NAN)).collect()
            })
            .unwrap_or_default();
        if let Some([x, y, z]) = vectors.as_deref() {
            let column = |v: &Vec<f64>| <[f64; 3]>::try_from(v.as_slice()).ok();
            if let (Some(x), Some(y), Some(z)) = (column(x), column(y), column(z)) {
                let origin = <[f64; 3]>::try_from(origin).ok().filter(|o| o.iter().all(|v| v.is_finite()));
                let affine = Affine { columns: [x, y, z], origin: origin.unwrap_or_default() };
                if affine.columns.iter().flatten().all(|v| v.is_finite()) {
                    notes.extend(affine.put_into(&mut place, space));
                }
            }
        }
        Ok((place, notes))
    }

    /// `space units: "mm" "mm" "mm"`, one for each axis of the world, or `units`, one for each of the file's.
    fn unit(&self, axes: &[Axis], world: bool, notes: &mut Vec<String>) -> Option<String> {
        let quoted = |text: &str| -> Vec<String> {
            text.split('"').skip(1).step_by(2).map(|unit| unit_name(unit.trim())).collect()
        };
        let units: Vec<String> = match (self.get(&["space units"]), self.get(&["units"])) {
            (Some(text), _) if world => quoted(text),
            (_, Some(text)) => {
                let all = quoted(text);
                axes.iter().filter_map(|axis| all.get(axis.number).cloned()).collect()
            }
            _ => Vec::new(),
        };
        let first = units.first().filter(|unit| !unit.is_empty())?;
        if units.iter().any(|unit| unit != first) {
            notes.push(format!("the units of the axes differ ({}) and are left out", units.join(", ")));
            return None;
        }
        Some(first.clone())
    }
}

/// Kinds of axes along which voxels lie; others hold the components of a voxel.
const SCALAR_KINDS: [&str; 6] = ["domain", "space", "time", "list", "none", "???"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Raw,
    Ascii,
    Gzip,
    Bzip2,
}

/// Numbers in words, as the bytes of their type.
struct Numbers<R> {
    text: BufReader<R>,
    dtype: Dtype,
    ready: Vec<u8>,
    at: usize,
}

/// No number is longer.
const WORD_BYTES_MAX: usize = 64;

impl<R: Read> Numbers<R> {
    fn word(&mut self) -> io::Result<String> {
        let mut word = String::new();
        while let Some(byte) = self.text.fill_buf()?.first().copied() {
            self.text.consume(1);
            if byte.is_ascii_whitespace() || byte == b',' {
                if word.is_empty() {
                    continue;
                }
                break;
            }
            word.push(char::from(byte));
            if word.len() > WORD_BYTES_MAX {
                break;
            }
        }
        Ok(word)
    }
}

impl<R: Read> Read for Numbers<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.at == self.ready.len() {
            let word = self.word()?;
            self.at = 0;
            self.ready.clear();
            if word.is_empty() {
                return Ok(0);
            }
            let wrong = || io::Error::new(io::ErrorKind::InvalidData, format!("`{word}` is no {}", self.dtype));
            self.ready = number_bytes(self.dtype, &word).ok_or_else(wrong)?;
        }
        let length = bytes.len().min(self.ready.len() - self.at);
        bytes[..length].copy_from_slice(&self.ready[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

/// The number in this machine's byte order.
fn number_bytes(dtype: Dtype, word: &str) -> Option<Vec<u8>> {
    fn bytes<T: Element>(value: T) -> Vec<u8> {
        let mut bytes = T::le_bytes(&[value]).into_owned();
        if cfg!(target_endian = "big") {
            bytes.reverse();
        }
        bytes
    }
    match dtype {
        Dtype::Bool => None,
        Dtype::U8 => word.parse::<u8>().ok().map(bytes),
        Dtype::I8 => word.parse::<i8>().ok().map(bytes),
        Dtype::U16 => word.parse::<u16>().ok().map(bytes),
        Dtype::I16 => word.parse::<i16>().ok().map(bytes),
        Dtype::U32 => word.parse::<u32>().ok().map(bytes),
        Dtype::I32 => word.parse::<i32>().ok().map(bytes),
        Dtype::U64 => word.parse::<u64>().ok().map(bytes),
        Dtype::I64 => word.parse::<i64>().ok().map(bytes),
        Dtype::F32 => word.parse::<f32>().ok().map(bytes),
        Dtype::F64 => word.parse::<f64>().ok().map(bytes),
    }
}

#[cfg(test)]
mod tests;
