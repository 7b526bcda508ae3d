//! The end of a run: what was computed becomes visible, and the run's own state becomes one manifest.
//!
//! `manifest` is what stays of a run, `clear` takes away what is not to stay, [`into_input`] copies labels into the group
//! of the image they are of.
//!
//! An output without its metadata document can't be opened, so nothing half-written is ever taken for whole: tables and
//! histogram appear as whole objects, array metadata after every shard, the group's last.

mod clear;
pub mod into_input;
mod manifest;

use bytes::Bytes;
use serde::Serialize;

use crate::array::{ArraySpec, Group};
use crate::plan::{Plan, Stored};
use crate::reduce::table;
use crate::state::State;
use crate::store::Store;
use crate::task::Written;
use crate::{Error, Result, count, layout};

pub use clear::{clean, close, disavow, erase, hand_over, reopen, retire, sweep, withdraw};
pub use manifest::{Manifest, fold};

/// Publishes everything a plan promises, metadata last.
pub(crate) async fn publish(store: &Store, plan: &Plan, state: &State) -> Result<Vec<Written>> {
    let mut written = Vec::new();
    for table in plan.tables.iter().filter(|table| !plan.given.tables.contains(&table.id)) {
        for key in &table.keys {
            written.push(table::publish(store, plan, state, table.id, key).await?);
        }
    }
    if !plan.given.histogram {
        let report = count::report(store, plan).await?;
        let pretty = serde_json::to_vec_pretty(&report)
            .map_err(|e| Error::internal(format!("the histogram can't be written: {e}")))?;
        written.push(Written::of(layout::HISTOGRAM, &pretty));
        store.put(layout::HISTOGRAM, pretty.into()).await?;
    }
    for stored in &plan.images {
        for group in &stored.groups {
            let name = group.trim_end_matches(".zarr");
            let documents = publish_image(&store.child(group)?, plan, state, stored, name, None).await?;
            written.extend(documents.into_iter().map(|document| document.below(group)));
        }
    }
    Ok(written)
}

/// Writes the metadata of an image whose levels lie in `group`, finest first, the group's own last. `labels_of` is the
/// path to the image that it labels, where that is known. Gives the documents, with keys below the group.
async fn publish_image(
    group: &Store,
    plan: &Plan,
    state: &State,
    stored: &Stored,
    name: &str,
    labels_of: Option<&str>,
) -> Result<Vec<Written>> {
    let mut written = Vec::new();
    let dtype = state.dtype(plan, stored.image);
    let mut levels = Vec::new();
    for (level, made) in stored.levels.iter().enumerate() {
        let spec = ArraySpec { dtype, ..stored.level_spec(level) };
        let documents = spec.publish(&group.child(&level.to_string())?).await?;
        written.extend(documents.into_iter().map(|document| document.below(&level.to_string())));
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
    written.extend(document.publish(group).await?);
    Ok(written)
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

/// Writes the provenance of a run.
pub async fn write_report(store: &Store, report: &impl Serialize) -> Result<()> {
    let pretty = serde_json::to_vec_pretty(report)
        .map_err(|e| Error::internal(format!("the run report can't be written: {e}")))?;
    store.put(layout::RUN_REPORT, Bytes::from(pretty)).await
}
