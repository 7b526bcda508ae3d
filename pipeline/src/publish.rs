//! The end of a run: what was computed becomes visible, and the run's own state becomes one manifest.
//!
//! [`into_input`] copies labels into the group of the image they are of.
//!
//! An output without its metadata document can't be opened, so nothing half-written is ever taken for whole: tables and
//! histogram appear as whole objects, array metadata after every shard, the group's last.

pub mod into_input;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::array::{ArraySpec, Group, METADATA_KEYS};
use crate::checkpoint::Checkpoint;
use crate::plan::{Plan, Stored};
use crate::record;
use crate::reduce::table;
use crate::state::State;
use crate::store::Store;
use crate::task::{Receipt, Written};
use crate::{Error, Result, count, layout};

/// Publishes everything a plan promises, metadata last.
pub(crate) async fn publish(store: &Store, plan: &Plan, state: &State) -> Result<()> {
    for table in &plan.tables {
        for key in &table.keys {
            table::publish(store, plan, state, table.id, key).await?;
        }
    }
    let report = count::report(store, plan).await?;
    let pretty = serde_json::to_vec_pretty(&report)
        .map_err(|e| Error::internal(format!("the histogram can't be written: {e}")))?;
    store.put(layout::HISTOGRAM, pretty.into()).await?;
    for stored in &plan.images {
        for group in &stored.groups {
            let name = group.trim_end_matches(".zarr");
            publish_image(&store.child(group)?, plan, state, stored, name, None).await?;
        }
    }
    Ok(())
}

/// Writes the metadata of an image whose levels lie in `group`, finest first, the group's own last. `labels_of` is the
/// path to the image that it labels, where that is known.
async fn publish_image(
    group: &Store,
    plan: &Plan,
    state: &State,
    stored: &Stored,
    name: &str,
    labels_of: Option<&str>,
) -> Result<()> {
    let dtype = state.dtype(plan, stored.image);
    let mut levels = Vec::new();
    for (level, made) in stored.levels.iter().enumerate() {
        let spec = ArraySpec { dtype, ..stored.level_spec(level) };
        spec.publish(&group.child(&level.to_string())?).await?;
        levels.push((level.to_string(), made.geometry.clone()));
    }
    let document = Group {
        name: name.to_owned(),
        kind: stored.kind,
        levels,
        by: stored.by,
        labels_of: labels_of.map(str::to_owned),
        ours: Default::default(),
        ome: stored.spec.ome,
    };
    document.publish(group).await
}

/// What a plan leaves that can be opened: the groups of its images, and its tables and documents.
pub struct Outputs {
    /// Keys of groups.
    pub groups: Vec<String>,
    /// Keys of files.
    pub files: Vec<String>,
}

impl Outputs {
    /// Of a plan.
    pub fn of(plan: &Plan) -> Self {
        let groups = plan.images.iter().flat_map(|stored| stored.groups.iter().cloned()).collect();
        let tables = plan.tables.iter().flat_map(|table| table.keys.iter().cloned());
        let documents = [layout::HISTOGRAM, layout::RUN_REPORT].map(str::to_owned);
        Self { groups, files: tables.chain(documents).collect() }
    }

    /// Of any plan without names of its own.
    pub fn usual() -> Self {
        let own = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
        Self {
            groups: own(&[layout::LABELS, layout::IMAGE]),
            files: own(&[layout::OBJECTS, layout::CONTACTS, layout::HISTOGRAM, layout::RUN_REPORT]),
        }
    }

    /// Of whatever run an output holds, finished or not: its own, and the usual ones.
    async fn found(store: &Store) -> Self {
        // One that can't be read tells no names.
        let manifest = Manifest::read(store).await.ok().flatten();
        let plan = match manifest {
            Some(manifest) => Some(manifest.plan),
            None => Plan::read(store).await.ok().flatten(),
        };
        let mut all = Self::usual();
        if let Some(plan) = plan {
            let Self { groups, files } = Self::of(&plan);
            all.groups.extend(groups);
            all.files.extend(files);
        }
        all
    }
}

/// What stays of a finished run's plan and receipts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// The plan.
    pub plan: Plan,
    /// What its last stage but one decided.
    pub state: State,
    /// Every object of the output arrays.
    pub written: Vec<Written>,
    /// Whether the plan, receipts and scratch were left beside it.
    pub kept: bool,
}

impl Manifest {
    /// Reads the manifest of a finished run, if there is one.
    pub async fn read(store: &Store) -> Result<Option<Self>> {
        let Some(object) = store.get(layout::MANIFEST).await? else { return Ok(None) };
        record::parse(store, layout::MANIFEST, &object.bytes).map(Some)
    }
}

/// Folds plan and receipts of a finished run into its manifest and removes what they were made of; `keep` leaves
/// plan, receipts and scratch in place beside it.
pub async fn fold(store: &Store, plan: &Plan, units: &[u64], keep: bool) -> Result<Manifest> {
    let mut written = Vec::new();
    for (stage, units) in units.iter().enumerate() {
        let mut next = 0;
        while next < *units {
            let receipt = Receipt::read(store, plan, stage, next).await?;
            let receipt = receipt.ok_or_else(|| Error::internal("a finished run lacks a receipt"))?;
            next = receipt.end;
            written.extend(receipt.written);
        }
    }
    let last = plan.stages.len() - 1;
    let state = State::read(store, plan, last).await?;
    let state = state.ok_or_else(|| Error::internal("a finished run lacks its last state"))?;
    let manifest = Manifest { plan: plan.clone(), state, written, kept: keep };
    store.put(layout::MANIFEST, record::json(&manifest)?).await?;
    Checkpoint::forget(store).await?;
    if !keep {
        for prefix in [layout::SCRATCH, layout::RECEIPTS, layout::STATES] {
            store.delete_prefix(prefix).await?;
        }
        store.delete(layout::PLAN).await?;
    }
    Ok(manifest)
}

/// Removes what killed processes left half written in an output, and looks only where a run writes: the folder may be
/// the user's, and hold other things. The caller holds the output's lock.
pub async fn sweep(store: &Store) -> Result<()> {
    let Outputs { groups, files } = Outputs::found(store).await;
    for folder in groups.iter().map(String::as_str).chain([layout::RUN]) {
        store.sweep_staged(folder).await?;
    }
    for file in &files {
        store.sweep_staged_of(file).await?;
    }
    Ok(())
}

/// Removes the metadata documents and tables of an output, so that nothing of it can be opened any more, then all else
/// that voxmill left there; and what lies where the next plan will write.
pub async fn erase(store: &Store, next: &Plan) -> Result<()> {
    let Outputs { mut groups, mut files } = Outputs::found(store).await;
    let next = Outputs::of(next);
    groups.extend(next.groups);
    files.extend(next.files);
    for group in &groups {
        for key in METADATA_KEYS {
            store.delete(&format!("{group}/{key}")).await?;
            store.delete(&format!("{}/{key}", layout::level(group, 0))).await?;
        }
    }
    for file in files.iter().map(String::as_str).chain([layout::MANIFEST]) {
        store.delete(file).await?;
    }
    for group in &groups {
        store.delete_prefix(group).await?;
    }
    clean(store).await
}

/// Removes whatever an unfinished run of this plan may have written outside its own state, and nothing else.
pub async fn withdraw(store: &Store, plan: &Plan) -> Result<()> {
    for stored in &plan.images {
        for group in &stored.groups {
            for key in METADATA_KEYS {
                store.delete(&format!("{group}/{key}")).await?;
            }
            for level in 0..stored.levels.len() {
                let (array, spec) = (layout::level(group, level), stored.level_spec(level));
                for key in METADATA_KEYS {
                    store.delete(&format!("{array}/{key}")).await?;
                }
                for object in spec.objects_in(spec.extent.region()) {
                    store.delete(&format!("{array}/{}", spec.key(object))).await?;
                }
            }
            // An empty folder of that name would look like somebody's array.
            store.prune(group).await?;
        }
    }
    for file in &Outputs::of(plan).files {
        store.delete(file).await?;
    }
    Ok(())
}

/// Removes the run's own state, but for the lock, which its holder still has.
pub async fn clean(store: &Store) -> Result<()> {
    // First: a checkpoint without its receipts would be believed.
    Checkpoint::forget(store).await?;
    for prefix in [layout::SCRATCH, layout::RECEIPTS, layout::STATES] {
        store.delete_prefix(prefix).await?;
    }
    store.delete(layout::PLAN).await
}

/// Writes the provenance of a run.
pub async fn write_report(store: &Store, report: &impl Serialize) -> Result<()> {
    let pretty = serde_json::to_vec_pretty(report)
        .map_err(|e| Error::internal(format!("the run report can't be written: {e}")))?;
    store.put(layout::RUN_REPORT, Bytes::from(pretty)).await
}
