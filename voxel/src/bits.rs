//! Rows of voxels as bits: 64 voxels a word, the first in the lowest bit.
//!
//! What works on foreground alone, morphology and the search for runs, handles 64 voxels at once this way. Images
//! stay a byte a voxel between the kernels: rows are packed and unpacked where a kernel begins and ends.

use crate::Element;
use crate::simd::vectorised;

/// Voxels in a word.
pub(crate) const WORD: usize = 64;

vectorised! {
    /// Packs the foreground of a row into as many words as it takes; bits beyond the row are 0.
    fn pack_row<T: Element>(row: &[T], words: &mut [u64]) {
        let (full, tail) = row.as_chunks::<WORD>();
        for (word, voxels) in words.iter_mut().zip(full) {
            *word = foreground_bits(voxels);
        }
        if !tail.is_empty() {
            let mut padded = [T::default(); WORD];
            padded[..tail.len()].copy_from_slice(tail);
            words[full.len()] = foreground_bits(&padded);
        }
    }

    /// The inverse: voxel i is bit i.
    fn unpack_row(words: &[u64], row: &mut [bool]) {
        let (full, tail) = row.as_chunks_mut::<WORD>();
        for (word, voxels) in words.iter().zip(full) {
            *voxels = voxels_of(*word);
        }
        if !tail.is_empty() {
            let length = tail.len();
            tail.copy_from_slice(&voxels_of(words[words.len() - 1])[..length]);
        }
    }
}

/// Packs the foreground of a row into `row.len().div_ceil(64)` words; bits beyond the row are 0.
pub(crate) fn pack<T: Element>(row: &[T], words: &mut [u64]) {
    assert_eq!(words.len(), row.len().div_ceil(WORD));
    pack_row(row, words);
}

/// The inverse of [`pack`] for bools.
pub(crate) fn unpack(words: &[u64], row: &mut [bool]) {
    assert_eq!(words.len(), row.len().div_ceil(WORD));
    unpack_row(words, row);
}

/// Bit i is set when `voxels[i]` is foreground.
#[inline(always)]
pub(crate) fn foreground_bits<T: Element>(voxels: &[T; WORD]) -> u64 {
    let mut flags = [0u8; WORD];
    for i in 0..WORD {
        flags[i] = u8::from(voxels[i].is_foreground());
    }
    let mut word = 0;
    for (i, eight) in flags.as_chunks::<8>().0.iter().enumerate() {
        // The factor has bit 56 - 7i for i in 0..8: it moves byte i's flag to bit 56 + i, and no two terms meet.
        word |= (u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * i);
    }
    word
}

#[inline(always)]
fn voxels_of(word: u64) -> [bool; WORD] {
    let mut voxels = [false; WORD];
    let (eights, _) = voxels.as_chunks_mut::<8>();
    for (byte, eight) in word.to_le_bytes().into_iter().zip(eights) {
        // Every byte of the product is the byte itself, of which byte i keeps bit i; adding 127 carries that to the top.
        let kept = u64::from(byte).wrapping_mul(0x0101_0101_0101_0101) & 0x8040_2010_0804_0201;
        let flags = ((kept + 0x7f7f_7f7f_7f7f_7f7f) >> 7) & 0x0101_0101_0101_0101;
        *eight = flags.to_le_bytes().map(|flag| flag != 0);
    }
    voxels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::testing::Random;
    use crate::simd::tests::on_each_level;

    #[test]
    fn rows_become_bits_and_come_back() {
        let mut random = Random::new(1);
        for width in [0usize, 1, 5, 63, 64, 65, 128, 200, 511] {
            let row: Vec<bool> = (0..width).map(|_| random.below(2) == 0).collect();
            let numbers: Vec<f32> = row.iter().map(|v| if *v { f32::NAN } else { -0.0 }).collect();
            let mut words = vec![0; width.div_ceil(WORD)];
            let (mut slow, mut others) = (words.clone(), words.clone());
            for (x, voxel) in row.iter().enumerate() {
                slow[x / WORD] |= u64::from(*voxel) << (x % WORD);
            }
            pack(&row, &mut words);
            assert_eq!(words, slow);
            pack(&numbers, &mut words);
            assert_eq!(words, slow);
            on_each_level(|| pack(&row, &mut others));
            assert_eq!(others, slow);

            let mut back = vec![true; width];
            unpack(&words, &mut back);
            assert_eq!(back, row);
            on_each_level(|| unpack(&words, &mut back));
            assert_eq!(back, row);
        }
    }
}
