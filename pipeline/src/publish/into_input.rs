//! Labels beside the image they are of: `INPUT/labels/NAME`, where OME-Zarr has them and viewers look for them.
//!
//! They are copied, object by object, once a run is finished and whole; metadata comes last, then the list of the labels
//! that the image has. The image itself is never touched.

use std::collections::HashMap;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::{Map, Value, json};

use super::{Manifest, publish_image};
use crate::array::{METADATA_KEYS, OmeVersion, Pyramid};
use crate::job::Job;
use crate::layout;
use crate::store::{Store, Stores};
use crate::task::Written;
use crate::{Error, Result};

/// Objects on their way at once: each may be as large as a shard.
const AT_ONCE: usize = 2;

/// The place of a run's labels in its input.
#[derive(Clone, Debug)]
pub struct IntoInput {
    /// The group that holds the image's labels.
    labels: Store,
    name: String,
    ome: OmeVersion,
    overwrite: bool,
    /// Labels of that name were there before.
    taken: bool,
}

impl IntoInput {
    /// Finds the place for the labels of `job`: by the name under which its last `label` is saved, else by `otherwise`.
    ///
    /// # Errors
    /// Invalid when the job makes no labels, when its input is no OME-Zarr image group that can be written, and when that
    /// is of another version than the labels would be.
    pub async fn find(stores: &Stores, job: &Job, otherwise: &str, overwrite: bool) -> Result<Self> {
        let last = job.steps.iter().rfind(|entry| entry.step.op() == "label");
        let last = last.ok_or_else(|| {
            Error::invalid("--into-input writes labels into the input, but the job has no label step")
                .hint("add a label step, or leave --into-input out")
        })?;
        let image = Pyramid::open(stores, &job.input).await.map_err(|e| e.at("--into-input"))?;
        if image.ome() != job.write.ome {
            let version = image.ome().name();
            return Err(Error::invalid(format!(
                "--into-input: {} is OME-Zarr {version}, and the labels would be {}",
                image.store().url(),
                job.write.ome.name()
            ))
            .hint(format!("add --ome {version}")));
        }
        image.store().check_writable()?;
        let labels = image.store().child("labels")?;
        let name = last.save.as_deref().unwrap_or(otherwise).to_owned();
        let group = labels.child(&name)?;
        let taken = group.exists("zarr.json").await? || group.exists(".zattrs").await?;
        Ok(Self { labels, name, ome: job.write.ome, overwrite, taken })
    }

    /// Refuses to go on when other labels have the name.
    ///
    /// # Errors
    /// Invalid when they do, and are not to be overwritten.
    pub fn check_free(&self) -> Result<()> {
        if !self.taken || self.overwrite {
            return Ok(());
        }
        Err(Error::invalid(format!("{} is there already", self.labels.display(&self.name)))
            .hint("replace it with --overwrite, or give the label step another name with save"))
    }

    /// Whether what has the name looks like the labels of this run: the same objects of the same sizes.
    async fn holds(&self, written: &[(String, Written)]) -> Result<bool> {
        let entries = self.labels.list(&self.name).await?;
        let prefix = format!("{}/", self.name);
        let sizes: HashMap<&str, u64> =
            entries.iter().filter_map(|entry| Some((entry.key.strip_prefix(&prefix)?, entry.size))).collect();
        Ok(written.iter().all(|(key, written)| sizes.get(key.as_str()) == Some(&written.bytes)))
    }

    /// Copies the labels of the finished run in `output`, unless they are there; gives their URL.
    ///
    /// # Errors
    /// Invalid when others have the name. Data when an object is not what the run has written.
    pub async fn write(&self, output: &Store, manifest: &Manifest) -> Result<String> {
        let labels = layout::LABELS.to_owned();
        let stored = manifest.plan.images.iter().find(|stored| stored.groups.contains(&labels));
        let stored = stored.ok_or_else(|| Error::internal("a job with a label step has left no labels"))?;
        let group = self.labels.child(&self.name)?;
        let prefix = format!("{}/", layout::LABELS);
        let copies = manifest.written.iter().filter_map(|written| Some((written.key.strip_prefix(&prefix)?, written)));
        let copies: Vec<(String, Written)> = copies.map(|(key, written)| (key.to_owned(), written.clone())).collect();
        if self.taken && !self.overwrite {
            if self.holds(&copies).await? {
                return Ok(group.url().to_owned());
            }
            self.check_free()?;
        }
        if self.taken {
            for key in METADATA_KEYS {
                group.delete(key).await?;
            }
            self.labels.delete_prefix(&self.name).await?;
        }
        stream::iter(copies)
            .map(|(key, written)| copy(output.clone(), group.clone(), key, written))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        let (plan, state) = (&manifest.plan, &manifest.state);
        publish_image(&group, plan, state, stored, &self.name, Some("../../")).await?;
        self.list().await?;
        Ok(group.url().to_owned())
    }

    /// Adds the name to the list of the image's labels, and leaves all else that is said there.
    async fn list(&self) -> Result<()> {
        let (key, mut document) = match self.ome {
            OmeVersion::V05 => ("zarr.json", json!({"zarr_format": 3, "node_type": "group", "attributes": {}})),
            OmeVersion::V04 => (".zattrs", json!({})),
        };
        if let Some(found) = self.labels.get(key).await? {
            document = serde_json::from_slice(&found.bytes)
                .map_err(|e| Error::invalid(format!("{} is not JSON: {e}", self.labels.display(key))))?;
        } else if self.ome == OmeVersion::V04 {
            self.labels.put(".zgroup", Bytes::from_static(b"{\"zarr_format\": 2}\n")).await?;
        }
        let attributes = match self.ome {
            OmeVersion::V05 => inside(&mut document, "attributes").and_then(|attributes| inside(attributes, "ome")),
            OmeVersion::V04 => Some(&mut document),
        };
        let no_object = || Error::invalid(format!("{} has no attributes to add to", self.labels.display(key)));
        let attributes = attributes.and_then(Value::as_object_mut).ok_or_else(no_object)?;
        if self.ome == OmeVersion::V05 {
            attributes.entry("version").or_insert_with(|| json!(self.ome.name()));
        }
        let listed = attributes.entry("labels").or_insert_with(|| json!([]));
        let listed = listed.as_array_mut().ok_or_else(no_object)?;
        if !listed.iter().any(|name| *name == self.name) {
            listed.push(json!(self.name));
        }
        self.labels.put(key, Bytes::from(format!("{document:#}\n"))).await
    }
}

/// What a document has at `key`; made where nothing is there yet.
fn inside<'a>(document: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    Some(document.as_object_mut()?.entry(key).or_insert_with(|| Value::Object(Map::new())))
}

async fn copy(from: Store, to: Store, key: String, written: Written) -> Result<()> {
    let changed = || {
        Error::data(format!("{} is not what the run has written", from.display(&written.key)))
            .hint("run the job again with --overwrite")
    };
    let object = from.get(&written.key).await?.ok_or_else(changed)?;
    if !written.is_of(&object.bytes) {
        return Err(changed());
    }
    to.put(&key, object.bytes).await
}
