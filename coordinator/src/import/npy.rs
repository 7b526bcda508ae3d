//! numpy's `.npy` files, as `numpy.lib.format` documents them: a header in Python's notation, then the voxels.
//!
//! Versions 1 to 3, C and Fortran order, both byte orders, bool, integers and floats, two or three axes.

use super::input::Input;
use super::layout::{Layout, Order, dtype_of_code};
use super::source::{Context, Source};
use pipeline::{Error, Result};
use voxel::{Dtype, Extent};

/// What a file begins with.
pub(super) const MAGIC: &[u8] = b"\x93NUMPY";

/// No sensible header is longer: numpy refuses to read longer ones by default, too.
const HEADER_BYTES_MAX: usize = 10_000;

/// The array in `input`.
pub(super) fn open(mut input: Input, context: &Context) -> Result<Source> {
    context.reading.only_one(&input.name)?;
    let layout = header(&mut input)?;
    Source::new(input, layout, 0, context)
}

/// Reads the header, up to the first voxel.
fn header(input: &mut Input) -> Result<Layout> {
    let mut start = [0; 8];
    input.header(&mut start)?;
    let length = match start[6] {
        1 => {
            let mut length = [0; 2];
            input.header(&mut length)?;
            usize::from(u16::from_le_bytes(length))
        }
        2 | 3 => {
            let mut length = [0; 4];
            input.header(&mut length)?;
            u32::from_le_bytes(length) as usize
        }
        version => {
            return Err(Error::invalid(format!(
                "{} is a .npy file of version {version}, and versions 1 to 3 are read",
                input.name
            )));
        }
    };
    if length > HEADER_BYTES_MAX {
        return Err(Error::data(format!("the header of {} claims {length} bytes", input.name)));
    }
    let mut text = vec![0; length];
    input.header(&mut text)?;
    parse(&String::from_utf8_lossy(&text)).map_err(|error| error.at(&input.name))
}

/// Reads `{'descr': '<u2', 'fortran_order': False, 'shape': (3, 4, 5), }`.
fn parse(text: &str) -> Result<Layout> {
    let descr = value_of(text, "descr")?;
    let quoted = descr.trim_start_matches(['\'', '"']);
    if quoted.len() == descr.len() {
        return Err(Error::invalid("holds records, not plain numbers").hint("save one field of it on its own"));
    }
    let (dtype, swapped) = dtype_of(quoted.split(['\'', '"']).next().unwrap_or_default())?;
    let order = value_of(text, "fortran_order")?;
    let order = match () {
        () if order.starts_with("True") => Order::Fortran,
        () if order.starts_with("False") => Order::C,
        () => return Err(Error::data("the header's `fortran_order` is neither True nor False")),
    };
    let shape = value_of(text, "shape")?;
    let shape = shape.strip_prefix('(').and_then(|rest| rest.split_once(')')).map(|(inside, _)| inside);
    let lengths = shape.map(|inside| {
        inside.split(',').map(str::trim).filter(|n| !n.is_empty()).map(str::parse).collect::<Result<Vec<usize>, _>>()
    });
    let Some(Ok(lengths)) = lengths else {
        return Err(Error::data("the header's `shape` is not a tuple of lengths"));
    };
    let extent = match *lengths.as_slice() {
        [y, x] => Extent { shape: [1, y, x], planar: true },
        [z, y, x] => Extent { shape: [z, y, x], planar: false },
        _ => {
            return Err(Error::invalid(format!("has {} axes, and images have two or three", lengths.len()))
                .hint("save one channel or time point of it on its own"));
        }
    };
    if extent.shape.contains(&0) {
        return Err(Error::invalid(format!("has no voxels: its shape is {lengths:?}")));
    }
    Ok(Layout { extent, dtype, swapped, order })
}

/// What follows `'key':` in a Python dictionary.
fn value_of<'a>(text: &'a str, key: &str) -> Result<&'a str> {
    ['\'', '"']
        .iter()
        .find_map(|quote| text.split_once(&format!("{quote}{key}{quote}")))
        .and_then(|(_, rest)| rest.trim_start().strip_prefix(':'))
        .map(str::trim_start)
        .ok_or_else(|| Error::data(format!("the header has no `{key}`")))
}

/// The type numpy's code `<u2` stands for, and whether its bytes must be swapped here.
fn dtype_of(code: &str) -> Result<(Dtype, bool)> {
    dtype_of_code(code).ok_or_else(|| {
        Error::invalid(format!(
            "its type is `{code}`, and bool, integers of 8 to 64 bits, float32 and float64 are read"
        ))
        .hint("convert it in numpy first: a.astype(\"float32\")")
    })
}

#[cfg(test)]
mod tests;
