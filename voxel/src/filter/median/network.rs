//! Selection networks: fixed sequences of compare-exchanges, each done for many voxels at once.
//!
//! Built from Batcher's odd-even merges, in the form for lists of any two lengths (Knuth, The Art of Computer
//! Programming, volume 3, section 5.3.4), and stripped of all that the wanted outputs do not depend on.

use super::super::keyed::Key;
use std::ops::RangeInclusive;

/// Number of a wire. A byte, for networks of at most 256 wires, keeps the sequence in the nearest cache.
type Wire = u8;

/// A sequence of compare-exchanges on numbered wires, and where its results are afterwards.
pub(super) struct Network {
    /// Lists, their length, and the first and last rank kept.
    merges: [usize; 4],
    /// Each puts the smaller of two wires on the first and the larger on the second.
    exchanges: Vec<(Wire, Wire)>,
    outputs: Vec<Wire>,
}

impl Network {
    /// Sorts wires `0..n`; output `k` is the wire that then holds rank `k`.
    pub(super) fn sorting(n: usize) -> Self {
        Self::merging(n, 1, 0..=n - 1)
    }

    /// Merges `lists` sorted lists of `len` keys, list `i` on wires `i * len ..`, least first; the outputs are the wires
    /// that then hold these ranks.
    pub(super) fn merging(lists: usize, len: usize, ranks: RangeInclusive<usize>) -> Self {
        let mut exchanges = Vec::new();
        let on: Vec<Vec<Wire>> = (0..lists).map(|i| wires(i * len, len)).collect();
        let sorted = merge_all(&on, &mut exchanges);
        let outputs = sorted[ranks.clone()].to_vec();
        let merges = [lists, len, *ranks.start(), *ranks.end()];
        Self { merges, exchanges: needed(exchanges, &outputs, sorted.len()), outputs }
    }

    /// The median of as many sorted lists, whose number and length are odd.
    pub(super) fn median_of_sorted(lists: usize, len: usize) -> Self {
        let middle = lists * len / 2;
        Self::merging(lists, len, middle..=middle)
    }

    /// Lists, their length and the first and last rank kept, by which straight code is found.
    pub(super) fn merges(&self) -> [usize; 4] {
        self.merges
    }

    /// The wires that hold the results after a run.
    #[inline(always)]
    pub(super) fn outputs(&self) -> impl ExactSizeIterator<Item = usize> + DoubleEndedIterator {
        self.outputs.iter().map(|wire| usize::from(*wire))
    }

    /// Runs every lane through the network.
    #[inline(always)]
    pub(super) fn run<K: Key>(&self, wires: &mut [K::Lanes]) {
        for &(low, high) in &self.exchanges {
            let (low, high) = (usize::from(low), usize::from(high));
            (wires[low], wires[high]) = exchanged::<K>(wires[low], wires[high]);
        }
    }
}

/// The smaller of two keys, lane by lane, and the larger.
#[inline(always)]
pub(super) fn exchanged<K: Key>(a: K::Lanes, b: K::Lanes) -> (K::Lanes, K::Lanes) {
    let (mut low, mut high) = (a, a);
    for i in 0..K::LANES {
        low.as_mut()[i] = a.as_ref()[i].min(b.as_ref()[i]);
        high.as_mut()[i] = a.as_ref()[i].max(b.as_ref()[i]);
    }
    (low, high)
}

/// The wires `first .. first + len`.
fn wires(first: usize, len: usize) -> Vec<Wire> {
    (first..first + len).map(|wire| wire as Wire).collect()
}

/// Merges sorted lists of wires, neighbours first.
fn merge_all(lists: &[Vec<Wire>], exchanges: &mut Vec<(Wire, Wire)>) -> Vec<Wire> {
    match lists {
        [] => Vec::new(),
        [only] => only.clone(),
        _ => {
            let (a, b) = lists.split_at(lists.len() / 2);
            let (a, b) = (merge_all(a, exchanges), merge_all(b, exchanges));
            merge(&a, &b, exchanges)
        }
    }
}

/// Merges two sorted lists of wires: the elements of odd place with each other, those of even place with each other,
/// and then each even one with the odd one after it.
fn merge(a: &[Wire], b: &[Wire], exchanges: &mut Vec<(Wire, Wire)>) -> Vec<Wire> {
    if a.is_empty() || b.is_empty() {
        return [a, b].concat();
    }
    if let ([a], [b]) = (a, b) {
        exchanges.push((*a, *b));
        return vec![*a, *b];
    }
    let every_other =
        |list: &[Wire], from: usize| -> Vec<Wire> { list.iter().skip(from).step_by(2).copied().collect() };
    let odd = merge(&every_other(a, 0), &every_other(b, 0), exchanges);
    let even = merge(&every_other(a, 1), &every_other(b, 1), exchanges);
    let mut merged = vec![odd[0]];
    for i in 1..odd.len().max(even.len() + 1) {
        match (even.get(i - 1), odd.get(i)) {
            (Some(even), Some(odd)) => {
                exchanges.push((*even, *odd));
                merged.extend([*even, *odd]);
            }
            (last, None) | (None, last) => merged.extend(last),
        }
    }
    merged
}

/// The exchanges that the outputs depend on, of `wires` in all.
fn needed(exchanges: Vec<(Wire, Wire)>, outputs: &[Wire], wires: usize) -> Vec<(Wire, Wire)> {
    let mut live = vec![false; wires];
    outputs.iter().for_each(|wire| live[usize::from(*wire)] = true);
    let mut kept: Vec<(Wire, Wire)> = Vec::new();
    for (low, high) in exchanges.into_iter().rev() {
        let (a, b) = (usize::from(low), usize::from(high));
        if live[a] || live[b] {
            (live[a], live[b]) = (true, true);
            kept.push((low, high));
        }
    }
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::super::straight;
    use super::*;

    const LANES: usize = <u8 as Key>::LANES;

    /// The zero-one principle: a network that sorts all inputs of zeros and ones sorts everything.
    #[test]
    fn sorts_every_input_of_zeros_and_ones() {
        for n in 1..=11 {
            let network = Network::sorting(n);
            for bits in 0..1u32 << n {
                let mut wires: Vec<[u8; LANES]> = (0..n).map(|i| [(bits >> i & 1) as u8; LANES]).collect();
                network.run::<u8>(&mut wires);
                assert!(network.outputs().is_sorted_by_key(|wire| wires[wire][0]), "{n} {bits:b}");
            }
        }
    }

    #[test]
    fn finds_ranks_of_every_sorted_input_of_zeros_and_ones() {
        for (lists, len) in [(1, 1), (1, 9), (2, 9), (2, 50), (3, 1), (3, 3), (3, 9), (5, 3), (5, 5), (9, 1), (3, 25)] {
            let last = lists * len - 1;
            for ranks in [0..=0, last / 2..=last / 2, len / 2..=len.min(last), 0..=last] {
                let network = Network::merging(lists, len, ranks.clone());
                for mut case in 0..(len + 1).pow(lists as u32) {
                    let mut wires = Vec::new();
                    let mut ones = 0;
                    for _ in 0..lists {
                        let zeros = case % (len + 1);
                        case /= len + 1;
                        ones += len - zeros;
                        wires.extend((0..len).map(|i| [u8::from(i >= zeros); LANES]));
                    }
                    network.run::<u8>(&mut wires);
                    for (rank, wire) in ranks.clone().zip(network.outputs()) {
                        assert_eq!(wires[wire][0], u8::from(rank >= lists * len - ones));
                    }
                }
            }
        }
    }

    #[test]
    fn straight_code_is_the_networks_it_stands_for() {
        let made = [
            ("Sort3", Network::sorting(3)),
            ("Sort5", Network::sorting(5)),
            ("Merge3Of3", Network::merging(3, 3, 0..=8)),
            ("Merge5Of5", Network::merging(5, 5, 0..=24)),
            ("Merge2Of5", Network::merging(2, 5, 0..=9)),
            ("Merge2Of25", Network::merging(2, 25, 0..=49)),
            ("Middle2Of3", Network::merging(2, 3, 1..=4)),
            ("Middle2Of9", Network::merging(2, 9, 4..=13)),
            ("Middle2Of10", Network::merging(2, 10, 7..=12)),
            ("Ranks19To31", Network::merging(2, 25, 19..=31)),
            ("Ranks18To30", Network::merging(2, 25, 18..=30)),
        ];
        assert_eq!(made.len(), straight::ALL.len());
        for ((name, network), (written, outputs, exchanges)) in made.iter().zip(straight::ALL) {
            assert_eq!((*name, &network.outputs[..], &network.exchanges[..]), (*written, *outputs, *exchanges));
        }
    }
}
