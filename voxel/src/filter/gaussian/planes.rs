//! Where a Gaussian's planes come from, and where they go: all at once, or a few at a time.

use super::SLAB;
use super::decide::Spread;
use crate::{AnyElement, Element, Region, Volume};
use std::collections::VecDeque;
use std::ops::Range;

/// The planes of an input that are there.
pub(super) struct Planes<'a, S> {
    /// One above the other, without gaps, with what values each has where that is wanted.
    held: VecDeque<(Volume<S>, Spread)>,
    /// Gives those that are still to come.
    next: Option<&'a mut dyn FnMut(Range<usize>) -> Volume<S>>,
    is_spread_wanted: bool,
}

impl<'a, S: Element> Planes<'a, S> {
    /// Planes that are all there.
    pub(super) fn all(input: Volume<S>) -> Self {
        Self { held: VecDeque::from([(input, Spread::NONE)]), next: None, is_spread_wanted: false }
    }

    /// Planes that `next` gives when they are needed.
    pub(super) fn to_come(next: &'a mut dyn FnMut(Range<usize>) -> Volume<S>) -> Self {
        Self { held: VecDeque::new(), next: Some(next), is_spread_wanted: false }
    }

    /// Looks at all values, that [`Planes::spread`] may tell.
    pub(super) fn look_at_values(&mut self) {
        self.is_spread_wanted = true;
        for (volume, spread) in &mut self.held {
            *spread = Spread::of(volume);
        }
    }

    /// What values the planes have that are held.
    pub(super) fn spread(&self) -> Spread {
        self.held.iter().fold(Spread::NONE, |all, (_, spread)| all.and(*spread))
    }

    /// Sees to it that these planes are there, and lets go of those below.
    pub(super) fn hold(&mut self, planes: Range<usize>) {
        let Some(next) = &mut self.next else { return };
        while self.held.front().is_some_and(|(lowest, _)| lowest.region.end[0] <= planes.start) {
            self.held.pop_front();
        }
        let there = self.held.back().map_or(planes.start, |(highest, _)| highest.region.end[0]);
        for first in (there..planes.end).step_by(SLAB) {
            let volume = next(first..planes.end.min(first + SLAB));
            let spread = if self.is_spread_wanted { Spread::of(&volume) } else { Spread::NONE };
            self.held.push_back((volume, spread));
        }
    }

    /// A row of a plane that is there, from `x` on.
    #[inline]
    pub(super) fn row(&self, z: usize, y: usize, x: usize) -> &[S] {
        let volume = self.held.iter().find(|(volume, _)| z < volume.region.end[0]);
        volume.map_or(&[], |(volume, _)| &volume.row(z, y)[x - volume.region.start[2]..])
    }
}

/// Where the result goes.
pub(super) enum Target<'a, F> {
    /// To its place in the whole.
    Whole(&'a mut [F]),
    /// On to whoever takes it.
    Passed(&'a mut dyn FnMut(Volume<F>)),
}

impl<F: AnyElement> Target<'_, F> {
    /// Has the planes of `part`, the next ones, filled in.
    pub(super) fn fill(&mut self, part: Region, fill: impl FnOnce(&mut [F])) {
        match self {
            Target::Whole(rest) => {
                let (to, above) = std::mem::take(rest).split_at_mut(part.voxels());
                *rest = above;
                fill(to);
            }
            Target::Passed(take) => {
                let mut planes = Volume::zeros(part);
                fill(&mut planes.data);
                take(planes);
            }
        }
    }
}
