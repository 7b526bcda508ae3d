//! The passes over the voxels: read a block and what surrounds it, run the ops, leave on the way what the pass leaves.
//!
//! Reading goes part by part, so that raw and decoded bytes of a whole block never lie beside each other. Where blocks are
//! tasks, the next part is fetched while one is decoded; all arithmetic runs under one of the stage's compute permits,
//! and what waits for the store holds none, so the cores stay busy. Where a block has a thread to itself, it reads when it
//! needs, of a disk that has been told before.

pub(crate) mod labels;
mod read;
mod verbatim;

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use tokio::sync::SemaphorePermit;
use voxel::{AnyVolume, Dtype, Region, Volume};

use crate::array::ArraySpec;
use crate::count::{self, Partial};
use crate::op::{Op, together};
use crate::plan::{Intensity, Leaf, Part, Pass, Plan, Stored};
use crate::reduce::Contribution;
use crate::sources::Versions;
use crate::state::State;
use crate::task::{Gate, Worker, Written};
use crate::{Error, Result};

use read::Reader;

/// What one unit gave, for the segment's receipt.
#[derive(Default)]
pub(crate) struct Done {
    pub(crate) written: Vec<Written>,
    pub(crate) read: Versions,
    pub(crate) missing_chunks: u64,
    pub(crate) contributions: Vec<Contribution>,
    pub(crate) rows: Option<u64>,
    pub(crate) partials: Vec<Partial>,
}

/// One block of a pass.
pub(crate) async fn block(worker: &Worker, gate: &Gate, stage: usize, pass: &Pass, unit: u64) -> Result<Done> {
    let plan = &worker.plan;
    if let Some(copies) = verbatim::Copies::of(plan, pass) {
        return copies.block(worker, gate, stage, unit).await;
    }
    let mut done = Done::default();
    let block = plan.grid.region(unit);
    let regions = plan.regions(pass, block);
    let beside = beside(plan, pass);
    let mut reader = Reader { worker, gate, stage, unit, block, in_order: false, done: &mut done };
    let mut intensity = match beside {
        Some(Beside::Image(image)) => Some(reader.image(image, Part::Image(image), block).await?),
        Some(Beside::Other) => Some(reader.intensity().await?),
        Some(Beside::OnTheWay(_)) | None => None,
    };
    let mask = match plan.mask_region(pass, &regions, block) {
        Some(region) => Some(reader.mask(region).await?),
        None => None,
    };
    let mut here = reader.image(pass.from, Part::From, regions[0]).await?;
    let state = worker.state_before(stage).await?;

    let mut permit = Some(gate.compute().await?);
    let mut runs = runs_together(plan, pass).into_iter();
    let mut number = pass.from;
    loop {
        if beside == Some(Beside::OnTheWay(number)) {
            intensity = Some(tokio::task::block_in_place(|| here.cropped(block)));
        }
        let last = number == pass.to;
        let leaves: Vec<Leaf> = pass.leaves.iter().copied().filter(|leaf| leaf.image() == number).collect();
        let mut whole = Some(here);
        for (n, leaf) in leaves.iter().enumerate() {
            let Some(image) = &mut whole else { break };
            match leaf {
                Leaf::Count(wanted) => {
                    let partial = tokio::task::block_in_place(|| match &mask {
                        Some(mask) => {
                            let inside = voxel::mask::inside(image, mask, block);
                            count::of_block(plan, wanted, &inside, inside.region(), &state)
                        }
                        None => count::of_block(plan, wanted, image, block, &state),
                    });
                    done.partials.push(partial);
                }
                Leaf::Image(_) => {
                    let Some(stored) = plan.stored(number) else {
                        return Err(Error::internal("a pass leaves an image that the plan does not name"));
                    };
                    let held = match permit.take() {
                        Some(held) => held,
                        None => gate.compute().await?,
                    };
                    // With the last thing left of the last image, the image itself can go.
                    let voxels = match last && n + 1 == leaves.len() {
                        true => whole.take().map(Cow::Owned),
                        false => whole.as_ref().map(Cow::Borrowed),
                    };
                    let voxels = voxels.map(Voxels::Image);
                    done.written.extend(write(worker, gate, held, &state, stored, voxels, block).await?);
                }
                Leaf::Labels { .. } | Leaf::Rows { .. } | Leaf::Contacts { .. } => {
                    if permit.is_none() {
                        permit = Some(gate.compute().await?);
                    }
                    let copy = mask.as_ref().filter(|_| !last || n + 1 < leaves.len()).map(|mask| {
                        // What comes after sees the image as it is, mask or not.
                        tokio::task::block_in_place(|| {
                            let mut copy = image.cropped(block.grown([leaf.rim(); 3], plan.extent.shape));
                            voxel::mask::within(&mut copy, mask);
                            copy
                        })
                    });
                    if let (None, Some(mask)) = (&copy, &mask) {
                        tokio::task::block_in_place(|| voxel::mask::within(image, mask));
                    }
                    let image = copy.as_ref().unwrap_or(image);
                    let left = labels::Left { worker, leaf, unit, image, intensity: intensity.as_ref() };
                    done.contributions.extend(left.write(&mut permit).await?);
                }
            }
        }
        if last {
            break;
        }
        if permit.is_none() {
            permit = Some(gate.compute().await?);
        }
        let (Some(voxels), Some(ops)) = (whole.take(), runs.next()) else {
            return Err(Error::internal("an image was given away too early"));
        };
        here = tokio::task::block_in_place(|| {
            let each = |i: usize, image, out| {
                let op = &plan.ops[ops.start + i];
                apply(plan, op, ops.start + i, image, out, mask.as_ref(), &state)
            };
            let regions = &regions[ops.start - pass.from..=ops.end - pass.from];
            let chosen = |i: usize| state.thresholds.get(&(ops.start + i)).copied();
            together::apply(&plan.ops[ops.clone()], voxels, regions, plan.extent, &each, &chosen)
        });
        number = ops.end;
    }
    Ok(done)
}

/// The ops of a pass that run together, in order: where nobody looks at what lies between them.
pub(crate) fn runs_together(plan: &Plan, pass: &Pass) -> Vec<Range<usize>> {
    let beside = beside(plan, pass);
    let is_seen =
        |image: usize| pass.leaves.iter().any(|leaf| leaf.image() == image) || beside == Some(Beside::OnTheWay(image));
    let runs = together::together(plan.ops_of(pass), |image| is_seen(pass.from + image));
    runs.into_iter().map(|run| pass.from + run.start..pass.from + run.end).collect()
}

/// Where a pass that measures finds its intensities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    /// Among the images it computes, under this number.
    OnTheWay(usize),
    /// In an image that an earlier stage left, or the input.
    Image(usize),
    /// In another array.
    Other,
}

/// Where the intensities of a pass come from; `None` when it wants none.
pub(crate) fn beside(plan: &Plan, pass: &Pass) -> Option<Beside> {
    let measures = |leaf: &Leaf| match leaf {
        Leaf::Labels { step } | Leaf::Rows { step } => plan.intensity_dtype(*step).is_some(),
        _ => false,
    };
    pass.leaves.iter().any(measures).then_some(())?;
    Some(match plan.intensity {
        Intensity::Other(_) => Beside::Other,
        Intensity::Image(image) if (pass.from..=pass.to).contains(&image) => Beside::OnTheWay(image),
        Intensity::Image(image) => Beside::Image(image),
    })
}

/// Runs one op; where there is a mask, what lies outside is background before and after it.
pub(crate) fn apply(
    plan: &Plan,
    op: &Op,
    number: usize,
    image: AnyVolume,
    out: Region,
    mask: Option<&Volume<bool>>,
    state: &State,
) -> AnyVolume {
    let mut image = image;
    if let (Some(mask), true) = (mask, op.takes_foreground()) {
        voxel::mask::within(&mut image, mask);
    }
    let mut result = op.apply(image, out, plan.extent, state.thresholds.get(&number).copied());
    if let (Some(mask), true) = (mask, op.gives_foreground()) {
        voxel::mask::within(&mut result, mask);
    }
    result
}

/// What is written of a block.
pub(crate) enum Voxels<'a> {
    /// An image that is there.
    Image(Cow<'a, AnyVolume>),
    /// Parts of an image, in the type they are written in, each made when it is packed.
    Made(Box<dyn Fn(Region) -> AnyVolume + Send + Sync + 'a>),
}

/// Encodes and writes the objects of a stored image that lie in `region`, a whole number of them, under each of its
/// names. `permit` is the one under which the image was made: the first object is encoded before anybody else computes,
/// and with the last one what the voxels come from goes, if it is owned, so that of a block of one object nothing but its
/// bytes waits for the store.
pub(crate) async fn write<'a>(
    worker: &Worker,
    gate: &'a Gate,
    permit: SemaphorePermit<'a>,
    state: &State,
    stored: &Stored,
    voxels: Option<Voxels<'_>>,
    region: Region,
) -> Result<Vec<Written>> {
    let plan = &worker.plan;
    let spec = ArraySpec { dtype: state.dtype(plan, stored.image), ..stored.spec.clone() };
    let mut written = Vec::new();
    let (mut permit, mut voxels) = (Some(permit), voxels);
    let mut objects = spec.objects_in(region).peekable();
    while let Some(object) = objects.next() {
        let held = match permit.take() {
            Some(held) => held,
            None => gate.compute().await?,
        };
        let Some(from) = &voxels else { break };
        let bytes = tokio::task::block_in_place(|| match from {
            Voxels::Image(image) if image.dtype() == spec.dtype => spec.encode_object(image, object),
            // Labels that turned out to be few enough for uint32.
            Voxels::Image(image) => spec.encode_made(object, &|part| Cow::Owned(narrowed(image, part, spec.dtype))),
            Voxels::Made(make) => spec.encode_made(object, &|part| Cow::Owned(make(part))),
        })?;
        voxels = voxels.filter(|_| objects.peek().is_some());
        drop(held);
        written.extend(put(worker, stored, &spec, object, bytes).await?);
    }
    Ok(written)
}

/// Writes an object of a stored image under each of its names.
async fn put(
    worker: &Worker,
    stored: &Stored,
    spec: &ArraySpec,
    object: [usize; 3],
    bytes: Bytes,
) -> Result<Vec<Written>> {
    let (len, crc32c, mut written) = (bytes.len() as u64, crc32c::crc32c(&bytes), Vec::new());
    for array in worker.plan.arrays_of(stored, 0) {
        let key = format!("{array}/{}", spec.key(object));
        worker.store.put(&key, bytes.clone()).await?;
        // Images between stages go with the scratch; only what the user keeps is accounted for.
        written.extend((!stored.groups.is_empty()).then_some(Written { key, bytes: len, crc32c }));
    }
    Ok(written)
}

fn narrowed(image: &AnyVolume, region: Region, dtype: Dtype) -> AnyVolume {
    voxel::filter::cast(image.cropped(region), region, dtype)
}
