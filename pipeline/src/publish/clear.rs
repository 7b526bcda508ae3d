//! Taking away: what killed runs left half written, what another job is to replace, what an unfinished run has written. An
//! output's metadata goes first, so that what can be opened is whole.

use super::manifest::TakenOver;
use super::{Manifest, Outputs};
use crate::array::METADATA_KEYS;
use crate::checkpoint::Checkpoint;
use crate::plan::{Plan, Stored};
use crate::store::Store;
use crate::{Result, layout, record};

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
    store.delete(layout::MANIFEST).await?;
    for group in &groups {
        // What can't be listed can't be opened as an image either.
        let levels = store.children(group).await.unwrap_or_default().folders;
        let levels = levels.iter().map(|level| format!("{group}/{level}"));
        for folder in std::iter::once(group.clone()).chain(levels) {
            for key in METADATA_KEYS {
                store.delete(&format!("{folder}/{key}")).await?;
            }
        }
    }
    for file in &files {
        store.delete(file).await?;
    }
    disavow(store).await?;
    for group in &groups {
        store.delete_prefix(group).await?;
    }
    clean(store).await
}

/// Removes whatever an unfinished run of this plan may have written outside its own state, and nothing else. After
/// [`disavow`].
pub async fn withdraw(store: &Store, plan: &Plan) -> Result<()> {
    for stored in &plan.images {
        withdraw_metadata(store, stored).await?;
        for group in &stored.groups {
            for level in 0..stored.levels.len() {
                let (array, spec) = (layout::level(group, level), stored.level_spec(level));
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

/// Removes everything that says that something is done, before what it speaks of: whoever is stopped between the two
/// leaves a run that begins anew, and none that takes for done what is gone.
pub async fn disavow(store: &Store) -> Result<()> {
    // First: a checkpoint without its receipts would be believed.
    Checkpoint::forget(store).await?;
    for prefix in [layout::RECEIPTS, layout::STATES] {
        store.delete_prefix(prefix).await?;
    }
    store.delete(layout::GIVEN).await
}

/// Removes the run's own state, but for the lock, which its holder still has. The plan last: it names the rest.
pub async fn clean(store: &Store) -> Result<()> {
    disavow(store).await?;
    for prefix in [layout::SCRATCH, layout::PROBE] {
        store.delete_prefix(prefix).await?;
    }
    store.delete(layout::PLAN).await
}

/// Removes the metadata documents, levels included, so that the image can't be opened any more.
async fn withdraw_metadata(store: &Store, stored: &Stored) -> Result<()> {
    for group in &stored.groups {
        let levels = (0..stored.levels.len()).map(|level| layout::level(group, level));
        for folder in std::iter::once(group.clone()).chain(levels) {
            for key in METADATA_KEYS {
                store.delete(&format!("{folder}/{key}")).await?;
            }
        }
    }
    Ok(())
}

/// Removes what makes the answers of a plan open, and nothing they are made of: they are about to change.
pub async fn close(store: &Store, plan: &Plan) -> Result<()> {
    for stored in &plan.images {
        withdraw_metadata(store, stored).await?;
    }
    for file in &Outputs::of(plan).files {
        store.delete(file).await?;
    }
    Ok(())
}

/// Takes a finished run, whose receipts and scratch were kept, for one that is not finished.
pub async fn reopen(store: &Store, manifest: &Manifest) -> Result<()> {
    close(store, &manifest.plan).await?;
    // What it says is done is not all done any more.
    Checkpoint::forget(store).await?;
    store.delete(layout::MANIFEST).await
}

/// Writes down what a new plan takes over from a finished run. Before the plan is created.
pub async fn hand_over(store: &Store, old: &Manifest, new: &Plan) -> Result<()> {
    let images: Vec<&String> =
        new.images.iter().filter(|s| new.given.images.contains(&s.image)).flat_map(|s| &s.groups).collect();
    let tables: Vec<&String> =
        new.tables.iter().filter(|t| new.given.tables.contains(&t.id)).flat_map(|t| &t.keys).collect();
    let in_image =
        |key: &str| images.iter().any(|group| key.strip_prefix(group.as_str()).is_some_and(|k| k.starts_with('/')));
    let is_given = |key: &String| tables.contains(&key) || (new.given.histogram && key == layout::HISTOGRAM);
    let taken = TakenOver {
        written: old.written.iter().filter(|w| in_image(&w.key)).cloned().collect(),
        documents: old.documents.iter().filter(|w| is_given(&w.key)).cloned().collect(),
        read: old.read.clone(),
    };
    store.put(layout::GIVEN, record::json(&taken)?).await
}

/// Removes what a finished run has left and a new plan in its place does not take over or make again with the same bytes.
/// The manifest goes last: as long as it is there beside the new plan, this is to be done again.
pub async fn retire(store: &Store, old: &Manifest, new: &Plan) -> Result<()> {
    for stored in old.plan.images.iter().chain(&new.images) {
        withdraw_metadata(store, stored).await?;
    }
    let (before, after) = (old.plan.image_fingerprints(), new.image_fingerprints());
    let stays = |stored: &Stored| {
        new.stored(stored.image).is_some_and(|other| other == stored && before[stored.image] == after[stored.image])
    };
    let staying: Vec<&String> = old.plan.images.iter().filter(|s| stays(s)).flat_map(|s| &s.groups).collect();
    for group in old.plan.images.iter().chain(&new.images).flat_map(|stored| &stored.groups) {
        if !staying.contains(&group) {
            store.delete_prefix(group).await?;
        }
    }
    let given = new.tables.iter().filter(|t| new.given.tables.contains(&t.id)).flat_map(|table| table.keys.clone());
    let given: Vec<String> = given.chain(new.given.histogram.then(|| layout::HISTOGRAM.to_owned())).collect();
    for file in Outputs::of(&old.plan).files.into_iter().chain(Outputs::of(new).files) {
        if !given.contains(&file) {
            store.delete(&file).await?;
        }
    }
    // Scratch and receipts are named after what they depend on: those of other stages are nobody's any more.
    let names: Vec<&str> =
        new.stages.iter().map(|stage| stage.fingerprint.as_str()).chain(after.iter().map(String::as_str)).collect();
    for prefix in [layout::RECEIPTS, layout::SCRATCH] {
        for folder in store.children(prefix).await?.folders {
            if !names.iter().any(|name| folder.contains(name)) {
                store.delete_prefix(&format!("{prefix}/{folder}")).await?;
            }
        }
    }
    store.delete(layout::MANIFEST).await
}
