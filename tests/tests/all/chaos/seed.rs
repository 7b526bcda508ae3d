//! Chance that can be had again: every draw is a function of the seed and of what it is drawn for, so that it doesn't
//! matter which thread came first.

use std::collections::HashMap;
use std::sync::Mutex;

/// A seed, and how often each thing was drawn for.
#[derive(Debug)]
pub(super) struct Dice {
    seed: u64,
    drawn: Mutex<HashMap<u64, u64>>,
}

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, drawn: Mutex::default() }
    }

    /// The next number for this thing, 64 bits.
    pub(super) fn draw(&self, of: &str) -> u64 {
        let thing = of.bytes().fold(self.seed, |h, b| mix(h ^ u64::from(b)));
        let mut drawn = self.drawn.lock().unwrap();
        let count = drawn.entry(thing).or_default();
        *count += 1;
        mix(thing ^ mix(*count))
    }
}

/// SplitMix64's last step.
pub(super) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The seeds of this run of the tests: the one that was asked for, else `rounds` of them, or as many as were asked for.
pub(super) fn seeds(rounds: u64) -> Vec<u64> {
    let asked = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    match (asked("VOXMILL_SEED"), asked("VOXMILL_ROUNDS")) {
        (Some(seed), _) => vec![seed],
        (None, more) => (1..=more.unwrap_or(rounds)).collect(),
    }
}
