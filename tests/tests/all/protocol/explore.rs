//! Goes through every state that a model can reach, breadth first: the first violation found is one of the shortest.

use std::collections::{HashMap, VecDeque};
use std::fmt::Display;
use std::hash::{BuildHasher, Hash, Hasher};

/// What explorers need of a model.
pub(crate) trait Model {
    /// Everything that can be told apart.
    type State: Copy + Eq + Hash;
    /// What leads from one state to the next.
    type Step: Copy + Display;

    /// Where all begins.
    fn start(&self) -> Self::State;

    /// All steps that can be taken from a state, with where they lead.
    fn steps(&self, from: &Self::State, into: &mut Vec<(Self::Step, Self::State)>);

    /// What is wrong with a state, if anything.
    fn violation(&self, state: &Self::State) -> Option<&'static str>;

    /// What everything should be able to lead to.
    fn is_goal(&self, state: &Self::State) -> bool;
}

/// What there was to be found.
pub(crate) struct Explored {
    /// States that can be reached.
    pub(crate) states: usize,
    /// Steps between them.
    pub(crate) steps: usize,
    /// What is violated first, and the steps that lead there.
    pub(crate) violation: Option<(&'static str, Vec<String>)>,
    /// The steps to a state from which no path leads to a goal.
    pub(crate) dead_end: Option<Vec<String>>,
}

/// Explores a model until something is violated, or everything has been seen.
pub(crate) fn explore<M: Model>(model: &M) -> Explored {
    let start = model.start();
    let mut found: HashMap<M::State, u32, Quick> = HashMap::with_hasher(Quick);
    // How each state was reached first.
    let mut from: Vec<Option<(u32, M::Step)>> = vec![None];
    let mut edges: Vec<(u32, u32)> = Vec::new();
    let mut goals: Vec<u32> = Vec::new();
    let mut open = VecDeque::from([(0u32, start)]);
    let mut next = Vec::new();
    found.insert(start, 0);
    while let Some((number, state)) = open.pop_front() {
        if let Some(what) = model.violation(&state) {
            let violation = Some((what, path(&from, number)));
            return Explored { states: found.len(), steps: edges.len(), violation, dead_end: None };
        }
        if model.is_goal(&state) {
            goals.push(number);
        }
        next.clear();
        model.steps(&state, &mut next);
        for (step, to) in next.drain(..) {
            let count = found.len() as u32;
            let to_number = *found.entry(to).or_insert(count);
            if to_number == count {
                from.push(Some((number, step)));
                open.push_back((count, to));
            }
            edges.push((to_number, number));
        }
    }
    let steps = edges.len();
    let dead_end = first_unled(from.len(), edges, goals).map(|number| path(&from, number));
    Explored { states: from.len(), steps, violation: None, dead_end }
}

fn path<S: Copy + Display>(from: &[Option<(u32, S)>], mut number: u32) -> Vec<String> {
    let mut steps = Vec::new();
    while let Some((before, step)) = from[number as usize] {
        steps.push(step.to_string());
        number = before;
    }
    steps.reverse();
    steps
}

/// The first of `states` from which no path leads to a goal. `edges` are pairs of to and from.
fn first_unled(states: usize, edges: Vec<(u32, u32)>, goals: Vec<u32>) -> Option<u32> {
    // Sorted by where they lead to, by counting.
    let mut ends = vec![0u32; states + 1];
    edges.iter().for_each(|(to, _)| ends[*to as usize + 1] += 1);
    for at in 0..states {
        ends[at + 1] += ends[at];
    }
    let (starts, mut sorted) = (ends.clone(), vec![0u32; edges.len()]);
    for (to, from) in edges {
        let at = &mut ends[to as usize];
        sorted[*at as usize] = from;
        *at += 1;
    }
    let mut leads = vec![false; states];
    let mut open = goals;
    while let Some(number) = open.pop() {
        let at = number as usize;
        if !std::mem::replace(&mut leads[at], true) {
            open.extend(&sorted[starts[at] as usize..starts[at + 1] as usize]);
        }
    }
    leads.iter().position(|leads| !leads).map(|number| number as u32)
}

/// A hash that is quick without optimisation: states are small and nobody attacks them.
#[derive(Clone, Copy)]
struct Quick;

struct Folded(u64);

impl BuildHasher for Quick {
    type Hasher = Folded;

    fn build_hasher(&self) -> Folded {
        Folded(0)
    }
}

impl Hasher for Folded {
    fn finish(&self) -> u64 {
        // Multiplication carries upwards only, and tables look at the low bits.
        (self.0 ^ self.0 >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.0 >> 17
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u8(*byte));
    }

    fn write_u8(&mut self, n: u8) {
        self.0 = (self.0.rotate_left(5) ^ u64::from(n)).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}
