//! What a finished run has left that a new plan would make again: saved images, tables and the histogram whose
//! fingerprints are the same. The new plan starts from them; that they are still there, and made of what the input still
//! is, whoever calls has seen.

use serde::{Deserialize, Serialize};

use super::{Intensity, Plan, Stored, TableId};
use crate::state::{Ranked, State};

/// What is there already.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Given {
    /// Images, with all their levels, under all their names.
    pub images: Vec<usize>,
    /// Tables, under all their names.
    pub tables: Vec<TableId>,
    /// Whether the histogram is.
    pub histogram: bool,
    /// What was decided on the way.
    pub state: State,
}

impl Given {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// What of the plan of a finished run, which ended in `state`, is the same in a new one. Nothing, where no image is:
    /// then everything has to be read again anyway.
    pub(super) fn of(plan: &Plan, earlier: &Plan, state: &State) -> Self {
        let (ours, theirs) = (plan.image_fingerprints(), earlier.image_fingerprints());
        let same = |image: usize| theirs.get(image).is_some_and(|other| *other == ours[image]);
        let stored = |stored: &&Stored| {
            let other = earlier.stored(stored.image);
            same(stored.image) && other.is_some_and(|other| other == *stored && !other.groups.is_empty())
        };
        let images: Vec<usize> = plan.images.iter().filter(stored).map(|stored| stored.image).collect();
        if images.is_empty() {
            return Self::default();
        }
        let tables = plan.tables.iter().filter(|table| {
            let other = earlier.table(table.id);
            other.is_some_and(|other| {
                other.keys == table.keys && earlier.table_fingerprint(other) == plan.table_fingerprint(table)
            })
        });
        let tables = tables.map(|table| table.id).collect();
        let histogram = plan.histogram_fingerprint() == earlier.histogram_fingerprint();
        // What an op chose or counted holds as long as it gives the same image.
        let decided = |op: usize| op < plan.ops.len() && same(op + 1);
        let thresholds = state.thresholds.iter().filter(|(op, _)| decided(**op)).map(|(op, t)| (*op, *t)).collect();
        let ranked = state.ranked.iter().filter(|ranked| decided(ranked.of.step)).map(|ranked| Ranked {
            cuts: Vec::new(),
            bases: ranked.bases.last().copied().into_iter().collect(),
            ..ranked.clone()
        });
        let state = State { thresholds, ranked: ranked.collect(), ..State::default() };
        let given = Self { images, tables, histogram, state };
        if given.start(plan) == 0 { Self::default() } else { given }
    }

    /// The last image from which all that is still wanted can be made; the input when there is none.
    pub(super) fn start(&self, plan: &Plan) -> usize {
        let missing_image = |image: usize| {
            plan.images.iter().any(|s| s.image < image && !s.groups.is_empty() && !self.images.contains(&s.image))
        };
        let missing_table =
            |image: usize| plan.tables.iter().any(|table| table.id.step < image && !self.tables.contains(&table.id));
        let missing_histogram = |image: usize| !self.histogram && plan.measured < image;
        // Rows of objects to come need their intensities.
        let missing_intensity = |image: usize| match plan.intensity {
            Intensity::Image(0) | Intensity::Other(_) => false,
            Intensity::Image(of) => of < image && !self.images.contains(&of),
        };
        let lacks_nothing = |image: usize| {
            !(missing_image(image) || missing_table(image) || missing_histogram(image) || missing_intensity(image))
        };
        self.images.iter().rev().copied().find(|image| lacks_nothing(*image)).unwrap_or(0)
    }
}
