//! Disjoint sets: which of many members belong together, learnt one pair at a time.
//!
//! Labelling uses it on the runs of a block, the label merge on the open objects of a group.

/// A partition of the members `0..len`, at first each alone. Four bytes a member.
///
/// The root of a set is its smallest member, so a walk over the members in ascending order meets each root before the
/// rest of its set: that alone numbers sets by their first member. Giving up union by size for this costs a factor
/// log n in the worst case, which path halving (Tarjan and van Leeuwen, 1984) keeps out of sight in practice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisjointSets {
    /// The root's parent is itself; any other parent is smaller than its child.
    parent: Vec<u32>,
}

impl DisjointSets {
    /// `len` members, each a set of its own.
    pub fn new(len: u32) -> Self {
        Self { parent: (0..len).collect() }
    }

    /// The smallest member of the set that holds `member`. Panics when `member` is not below `len`.
    #[inline]
    pub fn find(&mut self, mut member: u32) -> u32 {
        loop {
            let parent = self.parent[member as usize];
            if parent == member {
                return member;
            }
            let grandparent = self.parent[parent as usize];
            self.parent[member as usize] = grandparent;
            member = grandparent;
        }
    }

    /// Joins the sets of `a` and `b`; gives the root of the joined set.
    #[inline]
    pub fn union(&mut self, a: u32, b: u32) -> u32 {
        let (a, b) = (self.find(a), self.find(b));
        let root = a.min(b);
        self.parent[a.max(b) as usize] = root;
        root
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn roots_are_the_first_members_of_what_repeated_relabelling_gives(
            pairs in prop::collection::vec((0u32..24, 0u32..24), 0..40),
        ) {
            let mut sets = DisjointSets::new(24);
            let mut slow: Vec<u32> = (0..24).collect();
            for (a, b) in pairs {
                let (x, y) = (slow[a as usize], slow[b as usize]);
                for set in slow.iter_mut().filter(|set| **set == x.max(y)) {
                    *set = x.min(y);
                }
                prop_assert_eq!(sets.union(a, b), x.min(y));
            }
            let found: Vec<u32> = (0..24).map(|member| sets.find(member)).collect();
            prop_assert_eq!(found, slow);
        }
    }
}
