//! Numbers packed by pcodec (<https://github.com/pcodec/pcodec>, its standalone format), unpacked within bounds: a few
//! bytes can stand for millions of equal numbers.

use std::num::NonZeroU64;

use pco::data_types::Number;
use pco::standalone::{DecompressorItem, FileDecompressor};
use voxel::Dtype;
use zarrs::array::DataType;

use super::Why;

/// The codec's name in Zarr.
pub(super) const NAME: &str = "numcodecs.pcodec";

/// How many numbers of which type a chunk holds.
#[derive(Debug)]
pub(super) struct Numbers {
    dtype: Dtype,
    count: usize,
}

impl Numbers {
    pub(super) fn new(shape: &[NonZeroU64], data_type: &DataType) -> Result<Numbers, Why> {
        let name = data_type.name_v3().map(|name| name.into_owned()).unwrap_or_default();
        let dtype = Dtype::from_name(&name)
            .filter(|dtype| dtype.size() > 1)
            .ok_or_else(|| format!("pcodec packs no {name}"))?;
        let count = shape.iter().try_fold(1u64, |n, len| n.checked_mul(len.get()));
        let count = count.and_then(|n| usize::try_from(n).ok()).ok_or("pcodec can't count its numbers")?;
        Ok(Numbers { dtype, count })
    }

    /// The numbers' bytes in native order.
    pub(super) fn decode(&self, packed: &[u8]) -> Result<Vec<u8>, Why> {
        macro_rules! of {
            ($t:ty) => {{
                let numbers = unpack::<$t>(packed, self.count)?;
                let mut bytes = super::room(size_of_val(&numbers[..]))?;
                bytes.extend(numbers.iter().flat_map(|number| number.to_ne_bytes()));
                Ok(bytes)
            }};
        }
        match self.dtype {
            Dtype::U16 => of!(u16),
            Dtype::I16 => of!(i16),
            Dtype::U32 => of!(u32),
            Dtype::I32 => of!(i32),
            Dtype::U64 => of!(u64),
            Dtype::I64 => of!(i64),
            Dtype::F32 => of!(f32),
            Dtype::F64 => of!(f64),
            Dtype::Bool | Dtype::U8 | Dtype::I8 => Err(format!("pcodec packs no {}", self.dtype)),
        }
    }
}

fn unpack<T: Number + Default>(packed: &[u8], count: usize) -> Result<Vec<T>, Why> {
    let failed = |e: pco::errors::PcoError| format!("pcodec: {e}");
    let (file, mut rest) = FileDecompressor::new(packed).map_err(failed)?;
    let mut numbers = Vec::new();
    while let DecompressorItem::Chunk(mut chunk) = file.chunk_decompressor::<T, _>(rest).map_err(failed)? {
        let from = numbers.len();
        let to = from.checked_add(chunk.n()).filter(|to| *to <= count);
        let to = to.ok_or_else(|| format!("pcodec: it unpacks to more than the {count} numbers it can have"))?;
        if numbers.try_reserve_exact(to - from).is_err() {
            return Err(format!("there is no memory for its {to} numbers"));
        }
        numbers.resize(to, T::default());
        let done = chunk.read(&mut numbers[from..]).map_err(failed)?;
        if done.n_processed != to - from {
            return Err(format!("pcodec: {} numbers of {} were there", done.n_processed, to - from));
        }
        rest = chunk.into_src();
    }
    match numbers.len() {
        n if n == count => Ok(numbers),
        n => Err(format!("pcodec: it has {n} numbers, {count} were expected")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn no_more_numbers_come_out_than_a_chunk_has() {
        let config = pco::ChunkConfig::default();
        let packed = pco::standalone::simple_compress(&[5u32; 3000], &config).unwrap();
        assert_eq!(unpack::<u32>(&packed, 3000).unwrap(), [5; 3000]);
        for (count, why) in [
            (2999, "pcodec: it unpacks to more than the 2999 numbers it can have"),
            (3001, "pcodec: it has 3000 numbers, 3001 were expected"),
        ] {
            assert_eq!(unpack::<u32>(&packed, count).unwrap_err(), why);
        }
        for len in 0..packed.len() {
            unpack::<u32>(&packed[..len], 3000).unwrap_err();
        }
    }
}
