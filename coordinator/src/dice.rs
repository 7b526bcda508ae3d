//! Numbers that look random and come from a seed, so that what they decided can be done again: the spread of pauses, the
//! places that `verify` looks at.

use std::sync::atomic::{AtomicU64, Ordering};

/// A sequence of numbers (SplitMix64, by Steele, Lea and Flood). The state is a counter, so that threads need no lock.
#[derive(Debug)]
pub(crate) struct Dice(AtomicU64);

impl Dice {
    /// The sequence of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// The next number.
    pub(crate) fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number as one from 0 to below 1.
    pub(crate) fn unit(&self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
