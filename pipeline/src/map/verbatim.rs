//! A pass that writes the input anew, in chunks that lie there already as they would be written: they are taken over, packed
//! as they are, into shards or other objects. All are unpacked once all the same, since they are counted, and since what can't
//! be read must not be handed on.

use std::collections::HashMap;

use bytes::Bytes;
use voxel::{AnyVolume, Region};

use super::read::Reader;
use super::{Done, put};
use crate::array::Body;
use crate::count::{self, Partial};
use crate::plan::{Count, Leaf, Pass, Plan, Stored};
use crate::task::{Gate, Worker};
use crate::{Error, Result};

/// What such a pass leaves: copies of one make, and counts.
pub(super) struct Copies<'p> {
    stored: Vec<&'p Stored>,
    counts: Vec<Count>,
}

impl<'p> Copies<'p> {
    /// What `pass` leaves, if it is one.
    pub(super) fn of(plan: &'p Plan, pass: &Pass) -> Option<Self> {
        let (mut stored, mut counts) = (Vec::new(), Vec::new());
        for leaf in &pass.leaves {
            match leaf {
                Leaf::Count(count) => counts.push(*count),
                Leaf::Image(image) => stored.push(plan.stored(*image).filter(|stored| stored.verbatim)?),
                Leaf::Labels { .. } | Leaf::Rows { .. } | Leaf::Contacts { .. } => return None,
            }
        }
        let first = *stored.first()?;
        let alike = stored.iter().all(|other| other.spec == first.spec);
        (pass.from == 0 && alike).then_some(Self { stored, counts })
    }

    /// One block of it.
    pub(super) async fn block(self, worker: &Worker, gate: &Gate, stage: usize, unit: u64) -> Result<Done> {
        let plan = &worker.plan;
        let (block, state) = (plan.grid.region(unit), worker.state_before(stage).await?);
        let Some(first) = self.stored.first() else { return Err(Error::internal("nothing is to be copied")) };
        let spec = &first.spec;
        let mut partials: Vec<Option<Partial>> = self.counts.iter().map(|_| None).collect();
        let mut done = Done::default();
        for object in spec.objects_in(block) {
            let mut body = Body::new(spec)?;
            let mut places: HashMap<[usize; 3], (usize, Region)> =
                spec.parts(object).map(|(at, part)| (part.start, (at, part))).collect();
            let mut reader = Reader { worker, gate, stage, unit, block, in_order: true, done: &mut done };
            let take = |covers: Region, chunk: Option<(AnyVolume, Option<Bytes>)>| {
                let place = places.remove(&covers.start).filter(|(_, part)| *part == covers);
                let (at, part) =
                    place.ok_or_else(|| Error::internal(format!("no chunk of the copy has the voxels {covers:?}")))?;
                let (voxels, packed) = chunk.unwrap_or_else(|| (AnyVolume::zeros(spec.dtype, part), None));
                for (partial, count) in partials.iter_mut().zip(&self.counts) {
                    let more = count::of_block(plan, count, &voxels, part, &state);
                    match partial {
                        Some(partial) => partial.merge(more),
                        None => *partial = Some(more),
                    }
                }
                match packed {
                    Some(packed) => body.take(at, &packed, &voxels, part),
                    None => body.pack(at, &voxels, part)?,
                }
                Ok(())
            };
            reader.input_chunks(spec.object_region(object), take).await?;
            if !places.is_empty() {
                return Err(Error::internal("a chunk of a copy was not read"));
            }
            let bytes = body.finish();
            for stored in &self.stored {
                done.written.extend(put(worker, stored, spec, object, bytes.clone()).await?);
            }
        }
        done.partials.extend(partials.into_iter().flatten());
        Ok(done)
    }
}
