//! What stays of a run: its plan, every object it wrote and every version it read, in one record. `verify`, "already
//! done" and later runs that start from what is there go by it.

use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::plan::Plan;
use crate::sources::{Sources, Versions, name_of};
use crate::state::State;
use crate::store::Store;
use crate::task::{Receipt, Written};
use crate::{Error, Result, layout, record, stale};

/// What stays of a finished run's plan and receipts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// The plan.
    pub plan: Plan,
    /// What its last stage decided.
    pub state: State,
    /// Every object of the output arrays.
    pub written: Vec<Written>,
    /// Tables and documents, but for the report.
    pub documents: Vec<Written>,
    /// The version of every object that was read; those of a mask or of intensities begin with that word.
    pub read: Versions,
    /// Names the versions of all objects of what was read, where they are those that were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<String>,
    /// Whether the plan, receipts and scratch were left beside it.
    pub kept: bool,
}

impl Manifest {
    /// Reads the manifest of a finished run, if there is one.
    pub async fn read(store: &Store) -> Result<Option<Self>> {
        let Some(object) = store.get(layout::MANIFEST).await? else { return Ok(None) };
        record::parse(store, layout::MANIFEST, &object.bytes).map(Some)
    }

    /// Whether the arrays still are what was read. `None` where that can't be told, as on a web server.
    pub async fn is_current(&self, sources: &Sources) -> Result<Option<bool>> {
        let Some(now) = sources.versions().await? else { return Ok(None) };
        Ok(Some(
            self.contents.as_ref() == Some(&name_of(&now)) || stale::is_current(&self.read, &now, sources, &self.plan),
        ))
    }

    /// The first object that is not there with its length any more, if any is gone. Looks at no contents.
    pub async fn first_gone(&self, store: &Store) -> Result<Option<String>> {
        let mut sizes = std::collections::HashMap::new();
        for group in self.plan.images.iter().flat_map(|stored| &stored.groups) {
            sizes.extend(store.list(group).await?.into_iter().map(|entry| (entry.key, entry.size)));
        }
        for document in &self.documents {
            if !sizes.contains_key(&document.key)
                && let Some(size) = store.size(&document.key).await?
            {
                sizes.insert(document.key.clone(), size);
            }
        }
        let mut all = self.documents.iter().chain(&self.written);
        Ok(all.find(|object| sizes.get(&object.key) != Some(&object.bytes)).map(|object| object.key.clone()))
    }
}

/// What a plan that starts from what is given takes over from the manifest before it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct TakenOver {
    pub(super) written: Vec<Written>,
    pub(super) documents: Vec<Written>,
    pub(super) read: Versions,
}

impl TakenOver {
    async fn read(store: &Store) -> Result<Self> {
        let Some(object) = store.get(layout::GIVEN).await? else { return Ok(Self::default()) };
        record::parse(store, layout::GIVEN, &object.bytes)
    }
}

/// Folds plan and receipts of a finished run into its manifest and removes what they were made of; `keep` leaves
/// plan, receipts and scratch in place beside it.
///
/// # Errors
/// Data when what was read is not of one state.
pub async fn fold(store: &Store, plan: &Plan, units: &[u64], sources: &Sources, keep: bool) -> Result<Manifest> {
    let TakenOver { mut written, mut documents, mut read } = match plan.given.is_empty() {
        true => TakenOver::default(),
        false => TakenOver::read(store).await?,
    };
    let last = plan.stages.len() - 1;
    for (stage, units) in units.iter().enumerate() {
        let mut next = 0;
        while next < *units {
            let receipt = Receipt::read(store, plan, stage, next).await?;
            let receipt = receipt.ok_or_else(|| Error::internal("a finished run lacks a receipt"))?;
            next = receipt.end;
            if stage == last { &mut documents } else { &mut written }.extend(receipt.written);
            stale::join(&mut read, &receipt.read, sources)?;
        }
    }
    let state = State::read(store, plan, last).await?;
    let state = state.ok_or_else(|| Error::internal("a finished run lacks its last state"))?;
    let now = sources.versions().await?;
    let contents = now.filter(|now| stale::is_current(&read, now, sources, plan)).map(|now| name_of(&now));
    let manifest = Manifest { plan: plan.clone(), state, written, documents, read, contents, kept: keep };
    store.put(layout::MANIFEST, record::json(&manifest)?).await?;
    match keep {
        true => Checkpoint::forget(store).await?,
        false => super::clean(store).await?,
    }
    Ok(manifest)
}
