//! What each image, table and stage depends on, as hashes: the names of everything a run leaves for its own use.
//!
//! Equal fingerprints mean equal bytes, whichever job they came from. So a job that differs from an earlier one late on
//! finds what both have in common under the names it would give it itself; nothing needs to be compared. Whether the
//! *data* of the input is still the same is not known here: receipts record the versions they read, see
//! [`stale`](crate::stale).

use serde::Serialize;

use super::{FORMAT, Input, Intensity, Leaf, Pass, Plan, Round, StageKind, Stored, Table, TableId, hash};
use crate::op::{HISTOGRAM_VERSION, LEVEL_VERSION, Op};

/// Of an array that is read.
fn array(input: &Input) -> String {
    hash(&("array", &input.fingerprint, input.offset, input.dtype))
}

/// How an image is written, which is part of what its objects are.
fn written(stored: &Stored) -> impl Serialize {
    (&stored.groups, stored.kind, &stored.spec, &stored.levels, stored.by, stored.verbatim)
}

impl Plan {
    /// What decides every voxel of each image, the input first: what is read, the ops so far, their versions, and the
    /// mask where an op looks at it.
    pub fn image_fingerprints(&self) -> Vec<String> {
        let mask = self.mask.as_ref().map(array);
        let mut images = vec![hash(&("input", array(&self.input), self.extent))];
        for op in &self.ops {
            let masked = mask.as_ref().filter(|_| op.takes_foreground() || op.gives_foreground());
            let before = &images[images.len() - 1];
            images.push(match op {
                // Measuring leaves the image as it is.
                Op::Objects { .. } => before.clone(),
                _ => hash(&(before, op, op.version(), masked)),
            });
        }
        images
    }

    /// What decides a table, but for its names.
    pub(crate) fn table_fingerprint(&self, table: &Table) -> String {
        let images = self.image_fingerprints();
        let intensity = table.intensity.map(|dtype| (dtype, self.intensity_fingerprint(&images)));
        let of = &self.ops[table.id.step];
        let mask = self.mask.as_ref().map(array);
        hash(&("table", &images[table.id.step], of, of.version(), table.id.of, mask, intensity, &self.geometry))
    }

    /// What decides the histogram of the measured image.
    pub(crate) fn histogram_fingerprint(&self) -> String {
        let images = self.image_fingerprints();
        let mask = self.mask.as_ref().map(array);
        hash(&(
            &images[self.measured],
            HISTOGRAM_VERSION,
            mask,
            self.measured_name(),
            self.ops.is_empty(),
            self.job.percentiles,
        ))
    }

    fn intensity_fingerprint(&self, images: &[String]) -> String {
        match &self.intensity {
            Intensity::Image(image) => images[*image].clone(),
            Intensity::Other(other) => array(other),
        }
    }

    /// What decides the receipts and scratch of stages of these kinds, which run in this order. Each depends on all before
    /// it, since what was decided is carried along.
    pub(super) fn stage_fingerprints(&self, kinds: &[StageKind]) -> Vec<String> {
        let images = self.image_fingerprints();
        let mut before = hash(&(FORMAT, self.grid, self.merge, self.mask.as_ref().map(array), &self.given));
        if let Some(code) = &self.code {
            before = hash(&(before, "code", code));
        }
        kinds
            .iter()
            .enumerate()
            .map(|(i, kind)| {
                before = match kind {
                    StageKind::Map(pass) => hash(&(
                        &before,
                        kind,
                        self.pass_fingerprint(&images, pass),
                        later_rounds(pass, &kinds[i + 1..]),
                    )),
                    StageKind::Seam { step } | StageKind::Up { step, .. } | StageKind::Down { step, .. } => {
                        hash(&(&before, kind, &self.ops[*step]))
                    }
                    StageKind::Rank(id) | StageKind::Table(id) => hash(&(&before, kind, self.of_table(*id))),
                    StageKind::Relabel { step } => {
                        hash(&(&before, kind, &images[step + 1], self.stored(step + 1).map(written)))
                    }
                    StageKind::Level { image, .. } => {
                        hash(&(&before, kind, LEVEL_VERSION, &images[*image], self.stored(*image).map(written)))
                    }
                    StageKind::Publish => hash(&(&before, kind, &self.identity)),
                };
                before.clone()
            })
            .collect()
    }

    /// What decides the rows of a table, and how they are written.
    fn of_table(&self, id: TableId) -> impl Serialize {
        let table = self.table(id).map(|table| self.table_fingerprint(table));
        (self.ops[id.step].clone(), table)
    }

    fn pass_fingerprint(&self, images: &[String], pass: &Pass) -> String {
        let leaf = |leaf: &Leaf| match *leaf {
            Leaf::Count(count) => {
                let asked = (self.choice(count.image), self.measured == count.image);
                hash(&(count, HISTOGRAM_VERSION, &images[count.image], asked))
            }
            Leaf::Image(image) => hash(&(&images[image], self.stored(image).map(written))),
            Leaf::Labels { step } | Leaf::Rows { step } => {
                let intensity = self.intensity_dtype(step).map(|dtype| (dtype, self.intensity_fingerprint(images)));
                hash(&(&images[step], &self.ops[step], self.ops[step].version(), intensity))
            }
            Leaf::Contacts { step } => hash(&(&images[step], &self.ops[step], self.ops[step].version())),
        };
        hash(&(&images[pass.from], &images[pass.to], pass.leaves.iter().map(leaf).collect::<Vec<_>>()))
    }
}

/// Which rounds of counting come after a pass, for each image that it counts: what is decided at its end depends on
/// what somebody will ask.
fn later_rounds(pass: &Pass, later: &[StageKind]) -> Vec<(usize, Round)> {
    let counted = |image: usize| pass.counts().any(|count| count.image == image);
    let passes = later.iter().filter_map(|kind| match kind {
        StageKind::Map(pass) => Some(pass),
        _ => None,
    });
    passes.flat_map(Pass::counts).filter(|c| counted(c.image)).map(|c| (c.image, c.round)).collect()
}
