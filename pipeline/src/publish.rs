//! The end of a run: what was computed becomes visible, and the run's own state becomes one manifest.
//!
//! An output without its metadata document can't be opened, so nothing half-written is ever taken for whole: tables and
//! histogram appear as whole objects, array metadata after every shard, the group's last.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::array::{ArraySpec, GroupKind, multiscales_json};
use crate::plan::{Ending, Output, Plan, StageKind};
use crate::record;
use crate::reduce::table;
use crate::state::State;
use crate::store::Store;
use crate::task::{Receipt, Written};
use crate::{Error, Result, count, layout};

/// Publishes everything a plan promises, metadata last.
pub(crate) async fn publish(store: &Store, plan: &Plan, state: &State) -> Result<()> {
    if matches!(plan.ending, Ending::Label { .. } | Ending::Objects) {
        table::publish(store, plan, state, plan.stage_where(|k| *k == StageKind::Table)).await?;
    }
    let report = count::report(store, plan).await?;
    let pretty = serde_json::to_vec_pretty(&report)
        .map_err(|e| Error::internal(format!("the histogram can't be written: {e}")))?;
    store.put(layout::HISTOGRAM, pretty.into()).await?;
    if let Some(output) = &plan.output {
        let labels = matches!(plan.ending, Ending::Label { .. });
        let dtype = if labels { state.label_dtype() } else { output.spec.dtype };
        let spec = ArraySpec { dtype, ..output.spec.clone() };
        let kind = if labels { GroupKind::Labels } else { GroupKind::Image };
        let axes = &spec.dimension_names;
        let level = ("0".to_owned(), vec![1.0; axes.len()], vec![0.0; axes.len()]);
        let name = output.group.trim_end_matches(".zarr");
        let group = multiscales_json(name, axes, &vec![None; axes.len()], &[level], kind);
        let array = layout::level(&output.group, 0);
        spec.publish(&store.child(&array)?).await?;
        store.put(&format!("{}/{}", output.group, layout::ZARR_METADATA), group).await?;
    }
    Ok(())
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
    for folder in [layout::RUN, layout::LABELS, layout::IMAGE] {
        store.sweep_staged(folder).await?;
    }
    for file in [layout::OBJECTS, layout::HISTOGRAM, layout::RUN_REPORT] {
        store.sweep_staged_of(file).await?;
    }
    Ok(())
}

/// Removes the metadata documents and tables of an output, so that nothing of it can be opened any more, then all else
/// that voxmill left there.
pub async fn erase(store: &Store) -> Result<()> {
    for group in [layout::LABELS, layout::IMAGE] {
        store.delete(&format!("{group}/{}", layout::ZARR_METADATA)).await?;
        store.delete(&format!("{}/{}", layout::level(group, 0), layout::ZARR_METADATA)).await?;
    }
    for file in [layout::OBJECTS, layout::HISTOGRAM, layout::RUN_REPORT, layout::MANIFEST] {
        store.delete(file).await?;
    }
    for group in [layout::LABELS, layout::IMAGE] {
        store.delete_prefix(group).await?;
    }
    clean(store).await
}

/// Removes whatever an unfinished run of this plan may have written outside its own state, and nothing else.
pub async fn withdraw(store: &Store, plan: &Plan) -> Result<()> {
    if let Some(Output { group, spec }) = &plan.output {
        let array = layout::level(group, 0);
        store.delete(&format!("{group}/{}", layout::ZARR_METADATA)).await?;
        store.delete(&format!("{array}/{}", layout::ZARR_METADATA)).await?;
        for object in spec.objects_in(plan.extent.region()) {
            store.delete(&format!("{array}/{}", spec.key(object))).await?;
        }
        // An empty folder of that name would look like somebody's array.
        store.prune(group).await?;
    }
    for file in [layout::OBJECTS, layout::HISTOGRAM, layout::RUN_REPORT] {
        store.delete(file).await?;
    }
    Ok(())
}

/// Removes the run's own state, but for the lock, which its holder still has.
pub async fn clean(store: &Store) -> Result<()> {
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
