//! TIFF and BigTIFF: one page is a 2-D image, several are the planes of a volume, in one file or in a folder of files.
//!
//! Grey pages of one shape and type, in strips or tiles; palettes as their indices. Directories are read by the `tiff`
//! crate. Voxels are not: pages that are not packed are read from where they lie, in any order and band by band, and all
//! others row by row, each strip or tile once, so that neither a page nor a strip has to fit the memory.

mod describe;
mod lists;
mod page;
mod rows;

use super::input::{failed, length_of};
use super::layout::Layout;
use super::place::Place;
use super::source::{Context, READ, Source, Voxels, c_order};
use super::voxels::{Flat, Stream};
use ::tiff::TiffError;
use ::tiff::decoder::{Decoder, Limits};
use describe::Description;
use page::Page;
use pipeline::{Error, Result};
use rows::{Plane, Rows};
use std::cmp::Ordering;
use std::fs::File;
use std::io::{BufReader, Seek};
use std::path::{Path, PathBuf};
use voxel::Extent;

/// An open file, for its directories.
type Directories = Decoder<BufReader<File>>;

/// The least that lists of a directory may take, however little memory there is.
const LIST_BYTES_MIN: usize = 1 << 16;

/// The image in the file `path`.
pub(super) fn open(path: &Path, context: &Context) -> Result<Source> {
    context.reading.only_one_member(&path.display().to_string())?;
    let file = Scanned::scan(path, context, true)?;
    source(vec![file], context)
}

/// The images in a folder, in natural order, as one stack.
pub(super) fn open_folder(folder: &Path, context: &Context) -> Result<Source> {
    let place = folder.display();
    context.reading.only_one_member(&place.to_string())?;
    let mut paths = Vec::new();
    let mut others = 0;
    for entry in std::fs::read_dir(folder).map_err(|error| failed(folder, &error))? {
        let path = entry.map_err(|error| failed(folder, &error))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        match () {
            () if name.starts_with('.') || path.is_dir() => {}
            () if name.ends_with(".tif") || name.ends_with(".tiff") => paths.push(path),
            () => others += 1,
        }
    }
    if folder.join("zarr.json").exists() || folder.join(".zgroup").exists() || folder.join(".zarray").exists() {
        return Err(Error::invalid(format!("{place} is a Zarr already"))
            .hint("`voxmill run` and `voxmill info` read it as it is"));
    }
    if paths.is_empty() {
        return Err(Error::invalid(format!("{place} is a folder without TIFF files (.tif, .tiff)")).hint(READ));
    }
    paths.sort_by(|a, b| natural(&name_of(a), &name_of(b)).then_with(|| a.cmp(b)));
    let files: Vec<Scanned> = paths.iter().map(|path| Scanned::scan(path, context, false)).collect::<Result<_>>()?;
    let count = files.len();
    let (first, last) = (name_of(&paths[0]), name_of(&paths[count - 1]));
    let mut source = source(files, context)?;
    if count > 1 {
        source.notes.insert(0, format!("{count} files from {first} to {last}"));
    }
    if others > 0 {
        source.notes.push(format!("{others} files of {place} are no TIFF files and were left out"));
    }
    Ok(source)
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The order in which people number files: s2 before s10.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let digits = |s: &str| s.find(|c: char| !c.is_ascii_digit()).unwrap_or(s.len());
        let (da, db) = (digits(a), digits(b));
        let order = if da > 0 && db > 0 {
            let (na, nb) = (a[..da].trim_start_matches('0'), b[..db].trim_start_matches('0'));
            na.len().cmp(&nb.len()).then_with(|| na.cmp(nb))
        } else {
            match (a.chars().next(), b.chars().next()) {
                (None, None) => return Ordering::Equal,
                (ca, cb) => ca.cmp(&cb),
            }
        };
        if order != Ordering::Equal {
            return order;
        }
        let step =
            |s: &str, digits: usize| if digits > 0 { digits } else { s.chars().next().map_or(0, char::len_utf8) };
        (a, b) = (&a[step(a, da)..], &b[step(b, db)..]);
    }
}

/// A file whose directories have been read, and the planes of it that are wanted.
struct Scanned {
    path: PathBuf,
    planes: Vec<Found>,
    swapped: bool,
    place: Place,
    notes: Vec<String>,
    list_bytes: u64,
}

/// A page that is wanted.
struct Found {
    page: Page,
    /// Counted from 0 in the file.
    index: usize,
    /// Where the voxels lie, when they lie together and are not packed.
    at: Option<u64>,
}

impl Scanned {
    /// Looks at each page of a file, and at what the first says of them all. In a file of a folder that may be said of the
    /// whole set; then it counts for sizes only.
    fn scan(path: &Path, context: &Context, alone: bool) -> Result<Self> {
        let place = path.display();
        let length = length_of(path)?;
        let mut directories = directories(path, context.memory_bytes)?;
        let little = matches!(directories.byte_order(), ::tiff::tags::ByteOrder::LittleEndian);
        let swapped = little != cfg!(target_endian = "little");
        let mut description = Description::read(&mut directories).map_err(|error| error.at(place.to_string()))?;
        let mut pages = Vec::new();
        let mut list_bytes = 0;
        let mut skipped = 0;
        loop {
            let index = pages.len() + skipped;
            let (page, at) = Page::read(&mut directories, path, index, length)?;
            if page.reduced && index > 0 {
                // Thumbnails and coarser copies stand between the pages of some programs.
                skipped += 1;
            } else {
                list_bytes = list_bytes.max(page.pieces as u64 * 16);
                pages.push(Found { page, index, at });
            }
            if !directories.more_images() {
                break;
            }
            directories.next_image().map_err(|error| refused(path, index + 1, &error))?;
        }
        if skipped > 0 {
            description.notes.push(format!("{skipped} pages of reduced size were left out"));
        }
        if let [only] = pages.as_slice()
            && let Some(more) = description.one_page_stands_for(only.page.voxels())
        {
            match only.spread(path, more, length) {
                Ok(spread) => pages = spread,
                // In a folder each file may speak of them all.
                Err(_) if !alone => {}
                Err(error) => return Err(error),
            }
        }
        let reading = context.reading;
        let wanted = match description.wanted(&place.to_string(), pages.len(), reading, alone)? {
            None => (0..pages.len()).collect(),
            Some(wanted) => wanted,
        };
        // Pages may be wanted in another order than they have.
        let mut pages: Vec<Option<Found>> = pages.into_iter().map(Some).collect();
        let planes = wanted.into_iter().filter_map(|index| pages.get_mut(index).and_then(Option::take)).collect();
        let Description { place, notes, .. } = description;
        Ok(Self { path: path.to_owned(), planes, swapped, place, notes, list_bytes })
    }
}

impl Found {
    /// The pages that follow this one without directories of their own, as ImageJ writes stacks beyond 4 GB.
    fn spread(&self, path: &Path, count: usize, length: u64) -> Result<Vec<Self>> {
        let place = path.display();
        let Some(first) = self.at else {
            return Err(Error::invalid(format!(
                "{place} says that it holds {count} images, but has one page, which is packed"
            ))
            .hint("save it as BigTIFF, or as several files"));
        };
        let bytes = self.page.bytes();
        let end = (count as u64).checked_mul(bytes).and_then(|all| all.checked_add(first));
        if end.is_none_or(|end| end > length) {
            return Err(Error::data(format!(
                "{place} is truncated: it says that it holds {count} images of {bytes} bytes after byte {first}, and has \
                 {length} bytes"
            )));
        }
        Ok((0..count).map(|i| Self { page: self.page, index: 0, at: Some(first + i as u64 * bytes) }).collect())
    }
}

/// The stack of the wanted planes of all files.
fn source(files: Vec<Scanned>, context: &Context) -> Result<Source> {
    let Some((head, first)) = files.iter().find_map(|file| Some((file, file.planes.first()?))) else {
        return Err(Error::internal("a TIFF file without pages was opened"));
    };
    let several = files.len() > 1;
    let called = |file: &Scanned, found: &Found| match (several, file.planes.len()) {
        (true, 1) => name_of(&file.path),
        (true, _) => format!("{}: page {}", name_of(&file.path), found.index + 1),
        (false, _) => format!("page {}", found.index + 1),
    };
    for file in &files {
        for found in &file.planes {
            if !found.page.agrees(&first.page) {
                return Err(Error::invalid(format!(
                    "{}: {} is {}, but {} is {}; the planes of a volume must agree",
                    if several { file.path.parent().unwrap_or(Path::new("")) } else { &file.path }.display(),
                    called(file, found),
                    found.page,
                    called(head, first),
                    first.page
                ))
                .hint("leave it out, or import it on its own"));
            }
        }
    }
    let depth: usize = files.iter().map(|file| file.planes.len()).sum();
    let Page { rows, width, dtype, .. } = first.page;
    let extent = Extent { shape: [depth, rows, width], planar: depth == 1 };
    let in_place = files.iter().flat_map(|file| &file.planes).all(|found| found.at.is_some());
    let one_order = files.iter().all(|file| file.swapped == head.swapped);
    let layout = |swapped: bool| -> Layout { c_order(extent, dtype, swapped && dtype.size() > 1) };
    let piece_bytes = files.iter().flat_map(|f| &f.planes).map(|f| f.page.decoding_bytes()).max().unwrap_or(0);
    let list_bytes = files.iter().map(|file| file.list_bytes).max().unwrap_or(0);
    let (place, palette) = (head.place.clone(), first.page.palette);
    let mut notes: Vec<String> = head.notes.clone();
    if palette {
        notes.push("the colours of the palette are left out: voxels are its indices".to_owned());
    }
    let paths: Vec<PathBuf> = files.iter().map(|file| file.path.clone()).collect();
    let number = |n: usize| u32::try_from(n).map_err(|_| Error::invalid("there are more than 2^32 files"));
    let mut source = if in_place && one_order {
        let mut planes = Vec::with_capacity(depth);
        for (n, file) in files.iter().enumerate() {
            let n = number(n)?;
            planes.extend(file.planes.iter().filter_map(|found| Some((n, found.at?))));
        }
        Source::of(layout(head.swapped), Voxels::Flat(Flat::planes(paths, planes)))
    } else {
        if piece_bytes > context.memory_bytes / 4 {
            return Err(Error::invalid(format!(
                "{}: a row of tiles decodes to {piece_bytes} bytes, more than a quarter of the memory of {} bytes",
                head.path.display(),
                context.memory_bytes
            ))
            .hint("raise --memory"));
        }
        let mut planes = Vec::with_capacity(depth);
        for (n, file) in files.iter().enumerate() {
            let n = number(n)?;
            planes.extend(file.planes.iter().map(|found| Plane { file: n, index: found.index, at: found.at }));
        }
        let name = head.path.parent().filter(|_| several).unwrap_or(&head.path).display().to_string();
        let layout = layout(false);
        let all = layout.bytes(&name)?;
        let rows = Rows::new(paths, planes, context.memory_bytes);
        Source::of(layout, Voxels::Stream(Stream::new(name, Box::new(rows), all, context.folder)))
            .takes(piece_bytes + list_bytes)
    };
    source.place = place;
    source.notes = notes;
    Ok(source)
}

/// Opens a file for its directories, whose lists must fit a quarter of the memory.
fn directories(path: &Path, memory_bytes: u64) -> Result<Directories> {
    let mut file = File::open(path).map_err(|error| failed(path, &error))?;
    let length = usize::try_from(length_of(path)?).unwrap_or(usize::MAX);
    // A list in memory takes up to 32 times what it takes in the file.
    let limit =
        usize::try_from(memory_bytes / 4).unwrap_or(usize::MAX).max(LIST_BYTES_MIN).min(length.saturating_mul(32));
    if lists::longest(&mut file).map_err(|error| failed(path, &error))? > limit as u64 {
        return Err(refused(path, 0, &TiffError::LimitsExceeded));
    }
    file.rewind().map_err(|error| failed(path, &error))?;
    let mut limits = Limits::default();
    limits.decoding_buffer_size = limit;
    limits.intermediate_buffer_size = limit;
    limits.ifd_value_size = limit;
    let decoder = Decoder::new(BufReader::new(file)).map_err(|error| refused(path, 0, &error))?;
    Ok(decoder.with_limits(limits))
}

/// What an error on page `index`, counted from 0, asks of the user.
fn refused(path: &Path, index: usize, error: &TiffError) -> Error {
    let place = format!("{}: page {}", path.display(), index + 1);
    match error {
        TiffError::IoError(io) => match io.kind() {
            std::io::ErrorKind::UnexpectedEof => Error::data(format!("{place} ends too early: the file is truncated")),
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput | std::io::ErrorKind::Other => {
                Error::data(format!("{place} is damaged: {io}"))
            }
            _ => failed(path, io).at(format!("page {}", index + 1)),
        },
        TiffError::UnsupportedError(what) => Error::invalid(format!("{place} can't be imported: {what}")),
        TiffError::LimitsExceeded => Error::invalid(format!("{place} has a list too large for the memory"))
            .hint("raise --memory, or save the file with larger strips"),
        TiffError::FormatError(_) | TiffError::IntSizeError | TiffError::UsageError(_) => {
            Error::data(format!("{place} is damaged: {error}"))
        }
    }
}

#[cfg(test)]
mod tests;
