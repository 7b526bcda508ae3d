//! The passes over the voxels: read a block and what surrounds it, run the ops, leave what the pass leaves.
//!
//! Reading goes part by part, so that raw and decoded bytes of a whole block never lie beside each other, and the next
//! part is fetched while one is decoded. All arithmetic runs under one of the stage's compute permits; what waits for
//! the store holds none, so the cores stay busy.

pub(crate) mod labels;
mod read;

use std::collections::BTreeMap;

use tokio::sync::SemaphorePermit;
use voxel::{AnyVolume, Region};

use crate::array::ArraySpec;
use crate::count::{self, Partial};
use crate::op::{self, Op};
use crate::plan::{Counted, Leaves, Pass, Source};
use crate::reduce::Contribution;
use crate::store::Version;
use crate::task::{Gate, Worker, Written};
use crate::{Error, Result, layout};

/// What one unit gave, for the segment's receipt.
#[derive(Default)]
pub(crate) struct Done {
    pub(crate) written: Vec<Written>,
    pub(crate) read: BTreeMap<String, Version>,
    pub(crate) missing_chunks: u64,
    pub(crate) contribution: Option<Contribution>,
    pub(crate) objects: Option<u64>,
    pub(crate) partials: Vec<Partial>,
}

/// One block of a pass.
pub(crate) async fn block(worker: &Worker, gate: &Gate, stage: usize, pass: &Pass, unit: u64) -> Result<Done> {
    let plan = &worker.plan;
    let mut done = Done::default();
    let block = plan.grid.region(unit);
    let rim = usize::from(matches!(pass.leaves, Leaves::Labels | Leaves::Rows));
    let ops = plan.ops_of(pass);
    let regions = op::regions(ops, block.grown([rim; 3], plan.extent.shape), plan.extent);
    let wants_intensity = pass.leaves == Leaves::Labels && plan.intensity().is_some();

    let (mut input, mut spilled) = (None, None);
    match pass.source {
        Source::Input => input = Some(read::input(worker, gate, regions[0], &mut done).await?),
        Source::Stage(index) => {
            spilled = Some(read::spilled(worker, gate, index, regions[0]).await?);
            if wants_intensity || pass.counts.iter().any(|c| c.of == Counted::Input) {
                input = Some(read::input(worker, gate, block, &mut done).await?);
            }
        }
    }

    let chosen = worker.state_before(stage).await?;
    let permit = gate.compute().await?;
    let (image, intensity, partials) = tokio::task::block_in_place(|| {
        let mut partials = Vec::new();
        if let Some(input) = &input {
            count::add(plan, pass, Counted::Input, input, block, &chosen, &mut partials);
        }
        let intensity = match (&input, &spilled) {
            (Some(input), None) if wants_intensity => Some(input.cropped(block)),
            (Some(_), Some(_)) if wants_intensity => input.take().map(|input| input.into_cropped(block)),
            _ => None,
        };
        let start = spilled.or(input).ok_or_else(|| Error::internal("a pass read nothing"))?;
        let image = run(ops, pass.ops.0, start, &regions, worker, &chosen.thresholds);
        count::add(plan, pass, Counted::Before(pass.ops.1), &image, block, &chosen, &mut partials);
        Ok::<_, Error>((image, intensity, partials))
    })?;
    done.partials = partials;
    match pass.leaves {
        Leaves::Nothing => {}
        Leaves::Labels => done.contribution = Some(labels::leave(worker, stage, unit, image, intensity).await?),
        Leaves::Rows => done.contribution = Some(labels::leave_rows(worker, stage, unit, image).await?),
        Leaves::Array | Leaves::Image => {
            let (group, spec) = match (&plan.output, pass.leaves) {
                (Some(output), Leaves::Image) => (layout::level(&output.group, 0), output.spec.clone()),
                _ => plan.spilled_spec(stage).ok_or_else(|| Error::internal("the stage leaves no array"))?,
            };
            let written = write(worker, gate, permit, &group, &spec, image, block).await?;
            // Arrays between stages go with the scratch; only what the user keeps is accounted for.
            done.written = if pass.leaves == Leaves::Image { written } else { Vec::new() };
        }
    }
    Ok(done)
}

/// Runs a chain; `first` is the number of its first op in the plan.
fn run(
    ops: &[Op],
    first: usize,
    start: AnyVolume,
    regions: &[Region],
    worker: &Worker,
    thresholds: &BTreeMap<usize, f64>,
) -> AnyVolume {
    let mut image = start;
    for (i, op) in ops.iter().enumerate() {
        let chosen = thresholds.get(&(first + i)).copied();
        image = op.apply(image, regions[i + 1], worker.plan.extent, chosen);
    }
    image
}

/// Encodes and writes the objects of an array that lie in `region`, a whole number of them. `permit` is the one under
/// which the image was made: the first object is encoded before anybody else computes, and with the last one the image
/// goes, so that of a block of one object nothing but its bytes waits for the store.
pub(crate) async fn write<'a>(
    worker: &Worker,
    gate: &'a Gate,
    permit: SemaphorePermit<'a>,
    array: &str,
    spec: &ArraySpec,
    image: AnyVolume,
    region: Region,
) -> Result<Vec<Written>> {
    let mut written = Vec::new();
    let (mut permit, mut image) = (Some(permit), Some(image));
    let mut objects = spec.objects_in(region).peekable();
    while let Some(object) = objects.next() {
        let held = match permit.take() {
            Some(held) => held,
            None => gate.compute().await?,
        };
        let Some(voxels) = &image else { break };
        let bytes = tokio::task::block_in_place(|| spec.encode_object(voxels, object))?;
        image = image.filter(|_| objects.peek().is_some());
        drop(held);
        let key = format!("{array}/{}", spec.key(object));
        let (len, crc32c) = (bytes.len() as u64, crc32c::crc32c(&bytes));
        worker.store.put(&key, bytes).await?;
        written.push(Written { key, bytes: len, crc32c });
    }
    Ok(written)
}
