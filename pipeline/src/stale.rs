//! What of a run is no longer true, because what it read has changed since.
//!
//! Receipts say which version of each object a segment read. Those of blocks that read an object which is another now,
//! or which has appeared or gone, are taken back, and with them whatever depends on those blocks; the same command then
//! does just that again. Within one run nothing is taken back: two segments that saw different versions end it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use voxel::{Extent, Region};

use crate::checkpoint::Checkpoint;
use crate::grid::{coordinates, number};
use crate::plan::{Leaf, Pass, Plan, StageKind};
use crate::sources::{Sources, Versions};
use crate::store::Store;
use crate::task::Receipt;
use crate::{Error, Result, layout, record};

/// Adds the versions that `more` has read to those that are known.
///
/// # Errors
/// Data when an object had another version there: one answer would be made of two states of the input.
pub(crate) fn join(known: &mut Versions, more: &Versions, sources: &Sources) -> Result<()> {
    for (key, version) in more {
        match known.get(key) {
            Some(other) if other != version => {
                return Err(Error::data(format!(
                    "{} was replaced while the run read it: some blocks saw what it was before, others what it is now",
                    sources.display(key)
                ))
                .hint("run the same command again, with nobody writing there: what read the old one is done again"));
            }
            Some(_) => {}
            None => {
                known.insert(key.clone(), version.clone());
            }
        }
    }
    Ok(())
}

/// Whether everything that was read, and no more than that, is there as it was.
pub fn is_current(read: &Versions, now: &Versions, sources: &Sources, plan: &Plan) -> bool {
    read.iter().all(|(key, version)| now.get(key) == Some(version))
        && sources.keys(plan).iter().all(|key| read.contains_key(key) == now.contains_key(key))
}

/// Units of each stage whose receipts no longer hold.
pub type Stale = BTreeMap<usize, BTreeSet<u64>>;

/// Finds the segments that read something that is no longer so, and what depends on them. The units are the first ones of
/// segments that are to be taken back.
pub async fn find(store: &Store, plan: &Plan, sources: &Sources, now: &Versions) -> Result<Stale> {
    let mut stale = Stale::new();
    // The blocks that are to be done again, in the first stage that has such.
    let mut blocks: Option<(usize, BTreeSet<u64>)> = None;
    for (stage, this) in plan.stages.iter().enumerate() {
        let receipts = Receipt::list(store, plan, stage).await?;
        let mut taken = BTreeSet::new();
        for receipt in &receipts {
            let again = match (&this.kind, &blocks) {
                (_, Some((since, blocks))) => depends(plan, *since, stage, receipt, blocks),
                (StageKind::Map(pass), None) => !holds(plan, pass, receipt, sources, now),
                _ => false,
            };
            if again {
                taken.insert(receipt.first);
            }
        }
        if blocks.is_none() && !taken.is_empty() {
            let again = receipts.iter().filter(|receipt| taken.contains(&receipt.first));
            blocks = Some((stage, again.flat_map(|receipt| receipt.first..receipt.end).collect()));
        }
        if blocks.is_some() {
            stale.insert(stage, taken);
        }
    }
    Ok(stale)
}

/// Takes receipts back, the last stage's first: whatever stops this, what is left is found stale again.
pub async fn take_back(store: &Store, plan: &Plan, stale: &Stale) -> Result<()> {
    if !stale.is_empty() {
        // It would still claim what is taken back.
        Checkpoint::forget(store).await?;
    }
    for (stage, segments) in stale.iter().rev() {
        store.delete(&plan.state_key(*stage)).await?;
        for first in segments {
            store.delete(&layout::receipt(&plan.stages[*stage].fingerprint, *first)).await?;
        }
    }
    Ok(())
}

/// Whether a segment of a pass read what is there now.
fn holds(plan: &Plan, pass: &Pass, receipt: &Receipt, sources: &Sources, now: &Versions) -> bool {
    receipt.read.iter().all(|(key, version)| now.get(key) == Some(version))
        && (receipt.first..receipt.end)
            .flat_map(|unit| sources.keys_of_block(plan, pass, unit))
            .all(|key| receipt.read.contains_key(&key) == now.contains_key(&key))
}

/// Whether a segment of a later stage depends on any of `blocks`, which stage `since` does again.
fn depends(plan: &Plan, since: usize, stage: usize, receipt: &Receipt, blocks: &BTreeSet<u64>) -> bool {
    let units = receipt.first..receipt.end;
    let counts = plan.grid.counts();
    let kind = &plan.stages[stage].kind;
    match kind {
        // Seams of a block are those with its neighbours, corners included.
        StageKind::Seam { .. } if leaves_labels(plan, since, kind) => units
            .into_iter()
            .any(|unit| any_in(Region::new(coordinates(unit, counts), [1; 3]).grown([1; 3], counts), counts, blocks)),
        StageKind::Up { level, .. } if leaves_labels(plan, since, kind) => {
            units.into_iter().any(|group| any_in(plan.tree().blocks_of(*level, group), counts, blocks))
        }
        StageKind::Level { image, level } if leaves_image(plan, since, *image) => {
            let Some(stored) = plan.stored(*image) else { return true };
            let spec = stored.level_spec(*level);
            let scale: [usize; 3] = std::array::from_fn(|a| {
                (1..=*level).map(|level| stored.levels[level].step[a]).product::<usize>().max(1)
            });
            units.into_iter().any(|unit| {
                let object = spec.object_region(Extent { shape: spec.grid(), planar: false }.at(unit));
                let source = Region {
                    start: std::array::from_fn(|a| object.start[a] * scale[a]),
                    end: std::array::from_fn(|a| object.end[a] * scale[a]),
                };
                blocks.iter().any(|block| plan.grid.region(*block).intersection(&source).is_some())
            })
        }
        // What is decided or numbered for the whole image.
        _ => true,
    }
}

/// Whether any of `blocks` lies in a box of block coordinates.
fn any_in(near: Region, counts: [usize; 3], blocks: &BTreeSet<u64>) -> bool {
    (near.start[0]..near.end[0]).any(|z| {
        (near.start[1]..near.end[1]).any(|y| {
            let row = number([z, y, near.start[2]], counts)..=number([z, y, near.end[2] - 1], counts);
            blocks.range(row).next().is_some()
        })
    })
}

fn leaves(plan: &Plan, stage: usize, what: impl Fn(&Leaf) -> bool) -> bool {
    matches!(&plan.stages[stage].kind, StageKind::Map(pass) if pass.leaves.iter().any(what))
}

fn leaves_image(plan: &Plan, stage: usize, image: usize) -> bool {
    leaves(plan, stage, |leaf| *leaf == Leaf::Image(image))
}

/// Whether a stage leaves the labels that a stage of their merge joins.
fn leaves_labels(plan: &Plan, stage: usize, merge: &StageKind) -> bool {
    match *merge {
        StageKind::Seam { step } | StageKind::Up { step, .. } => {
            leaves(plan, stage, |leaf| *leaf == Leaf::Labels { step })
        }
        _ => false,
    }
}

/// What a stage has read, as its end writes it down for the stages after it.
#[derive(Serialize, Deserialize)]
struct Reads {
    versions: Versions,
}

/// Writes down what a stage has read.
pub(crate) async fn note(store: &Store, fingerprint: &str, versions: &Versions) -> Result<()> {
    let reads = Reads { versions: versions.clone() };
    store.put(&layout::reads(fingerprint), record::json(&reads)?).await
}

/// What a stage that has ended had read.
pub(crate) async fn noted(store: &Store, fingerprint: &str) -> Result<Option<Versions>> {
    let key = layout::reads(fingerprint);
    let Some(object) = store.get(&key).await? else { return Ok(None) };
    let reads: Reads = record::parse(store, &key, &object.bytes)?;
    Ok(Some(reads.versions))
}
