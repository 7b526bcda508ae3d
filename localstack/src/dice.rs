//! Numbers that look random and come from a seed, so that a run of faults can be had again.

/// The number at a place of a sequence (SplitMix64, by Steele, Lea and Flood): each kind of fault has a sequence of its
/// own, so that asking for one doesn't move another.
pub(crate) fn at(seed: u64, sequence: u64, place: u64) -> u64 {
    let mut z = seed
        .wrapping_add(sequence.wrapping_mul(0xd1b5_4a32_d192_ed03))
        .wrapping_add(place.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The same as a number from 0 to below 1.
pub(crate) fn unit(seed: u64, sequence: u64, place: u64) -> f64 {
    (at(seed, sequence, place) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_its_numbers_again_and_another_gives_others() {
        let first: Vec<u64> = (0..8).map(|n| at(1, 0, n)).collect();
        assert_eq!(first, (0..8).map(|n| at(1, 0, n)).collect::<Vec<_>>());
        assert_ne!(first, (0..8).map(|n| at(2, 0, n)).collect::<Vec<_>>());
        assert_ne!(first, (0..8).map(|n| at(1, 1, n)).collect::<Vec<_>>());
        let mean: f64 = (0..1000).map(|n| unit(7, 3, n)).sum::<f64>() / 1000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");
    }
}
