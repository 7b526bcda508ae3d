//! Selection networks: fixed sequences of compare-exchanges, each done for many voxels at once.
//!
//! Built from Batcher's odd-even merges, in the form for lists of any two lengths (Knuth, The Art of Computer
//! Programming, volume 3, section 5.3.4), and stripped of all that the wanted outputs do not depend on.

/// Neighbouring voxels that go through a network side by side.
pub(super) const LANES: usize = 32;

/// Number of a wire. A byte, for networks of at most 256 wires, keeps the sequence in the nearest cache.
type Wire = u8;

/// A sequence of compare-exchanges on numbered wires, and where its results are afterwards.
pub(super) struct Network {
    /// Each puts the smaller of two wires on the first and the larger on the second.
    exchanges: Vec<(Wire, Wire)>,
    outputs: Vec<Wire>,
}

impl Network {
    /// Sorts wires `0..n`; output `k` is the wire that then holds rank `k`.
    pub(super) fn sorting(n: usize) -> Self {
        let mut exchanges = Vec::new();
        let outputs = sort(&wires(0, n), &mut exchanges);
        Self { exchanges, outputs }
    }

    /// The median of `lists` sorted lists of `len` keys, list `i` on wires `i * len ..`, least first. Their number is
    /// odd; the one output is the wire that then holds it.
    pub(super) fn median_of_sorted(lists: usize, len: usize) -> Self {
        let mut exchanges = Vec::new();
        let lists: Vec<Vec<Wire>> = (0..lists).map(|i| wires(i * len, len)).collect();
        let sorted = merge_all(&lists, &mut exchanges);
        let median = sorted[sorted.len() / 2];
        Self { exchanges: needed(exchanges, median, sorted.len()), outputs: vec![median] }
    }

    /// The wires that hold the results after a run.
    pub(super) fn outputs(&self) -> &[Wire] {
        &self.outputs
    }

    /// Runs every lane through the network.
    #[inline(always)]
    pub(super) fn run<K: Ord + Copy>(&self, wires: &mut [[K; LANES]]) {
        for &(low, high) in &self.exchanges {
            let (low, high) = (usize::from(low), usize::from(high));
            let (a, b) = (wires[low], wires[high]);
            let (min, max) = (&mut [a[0]; LANES], &mut [a[0]; LANES]);
            for i in 0..LANES {
                min[i] = a[i].min(b[i]);
                max[i] = a[i].max(b[i]);
            }
            wires[low] = *min;
            wires[high] = *max;
        }
    }
}

/// The wires `first .. first + len`.
fn wires(first: usize, len: usize) -> Vec<Wire> {
    (first..first + len).map(|wire| wire as Wire).collect()
}

/// Sorts `wires`, and gives them in the order of rank.
fn sort(wires: &[Wire], exchanges: &mut Vec<(Wire, Wire)>) -> Vec<Wire> {
    if wires.len() < 2 {
        return wires.to_vec();
    }
    let (a, b) = wires.split_at(wires.len() / 2);
    let (a, b) = (sort(a, exchanges), sort(b, exchanges));
    merge(&a, &b, exchanges)
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

/// The exchanges that wire `output` depends on, of `wires` in all.
fn needed(exchanges: Vec<(Wire, Wire)>, output: Wire, wires: usize) -> Vec<(Wire, Wire)> {
    let mut read = vec![false; wires];
    read[usize::from(output)] = true;
    let mut kept: Vec<_> = exchanges
        .into_iter()
        .rev()
        .filter(|&(low, high)| {
            let (low, high) = (usize::from(low), usize::from(high));
            let needed = read[low] || read[high];
            read[low] |= needed;
            read[high] |= needed;
            needed
        })
        .collect();
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The zero-one principle: a network that sorts all inputs of zeros and ones sorts everything.
    #[test]
    fn sorts_every_input_of_zeros_and_ones() {
        for n in 1..=11 {
            let network = Network::sorting(n);
            for bits in 0..1u32 << n {
                let mut wires: Vec<[u8; LANES]> = (0..n).map(|i| [(bits >> i & 1) as u8; LANES]).collect();
                network.run(&mut wires);
                assert!(network.outputs().is_sorted_by_key(|wire| wires[usize::from(*wire)][0]), "{n} {bits:b}");
            }
        }
    }

    #[test]
    fn finds_the_median_of_every_sorted_input_of_zeros_and_ones() {
        for (lists, len) in [(1, 1), (1, 9), (3, 1), (3, 3), (3, 9), (5, 3), (5, 5), (9, 1), (3, 25)] {
            let network = Network::median_of_sorted(lists, len);
            for mut case in 0..(len + 1).pow(lists as u32) {
                let mut wires = Vec::new();
                let mut ones = 0;
                for _ in 0..lists {
                    let zeros = case % (len + 1);
                    case /= len + 1;
                    ones += len - zeros;
                    wires.extend((0..len).map(|i| [u8::from(i >= zeros); LANES]));
                }
                network.run(&mut wires);
                assert_eq!(wires[usize::from(network.outputs()[0])][0], u8::from(ones > lists * len / 2));
            }
        }
    }

    /// 3 x 3 x 3: what the whole choice of a network rests on.
    #[test]
    fn a_window_of_27_takes_fewer_than_a_hundred_exchanges() {
        let all = Network::sorting(9).exchanges.len() + Network::median_of_sorted(3, 9).exchanges.len();
        assert!(all < 100, "{all}");
    }
}
