//! The documents that make an image of arrays: OME-Zarr 0.5 (<https://ngff.openmicroscopy.org/0.5/>), or 0.4
//! (<https://ngff.openmicroscopy.org/0.4/>), whose arrays are Zarr v2.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use voxel::pyramid::Reduce;

use super::axes::Kind;
use super::{Geometry, GroupKind};
use crate::Error;
use crate::Result;
use crate::store::Store;
use crate::task::Written;

/// Every document that can make a folder a Zarr, of either version. Without them nothing there opens, so they are
/// deleted first and written last.
pub const METADATA_KEYS: [&str; 5] = ["zarr.json", ".zattrs", ".zgroup", ".zarray", ".zmetadata"];

/// The version of OME-Zarr, and with it of Zarr, that is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "Version")]
pub enum OmeVersion {
    /// 0.4, on Zarr v2: no shards.
    V04,
    /// 0.5, on Zarr v3.
    #[default]
    V05,
}

impl OmeVersion {
    /// As it stands in documents: `0.5`.
    pub fn name(self) -> &'static str {
        match self {
            Self::V04 => "0.4",
            Self::V05 => "0.5",
        }
    }
}

impl fmt::Display for OmeVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for OmeVersion {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::V04, Self::V05]
            .into_iter()
            .find(|version| version.name() == text.trim())
            .ok_or_else(|| Error::invalid(TAKES.to_owned() + &format!(", but got {text:?}")))
    }
}

const TAKES: &str = "takes the version of OME-Zarr, \"0.5\" or \"0.4\"";

/// As people write it: text, or a number.
#[derive(Deserialize)]
#[serde(untagged, expecting = "takes the version of OME-Zarr, \"0.5\" or \"0.4\"")]
enum Version {
    Text(String),
    Number(f64),
}

impl TryFrom<Version> for OmeVersion {
    type Error = &'static str;

    fn try_from(version: Version) -> Result<Self, &'static str> {
        let text = match version {
            Version::Text(text) => text,
            Version::Number(number) => number.to_string(),
        };
        text.parse().map_err(|_| TAKES)
    }
}

impl From<OmeVersion> for String {
    fn from(version: OmeVersion) -> String {
        version.name().to_owned()
    }
}

impl JsonSchema for OmeVersion {
    fn schema_name() -> Cow<'static, str> {
        "OmeVersion".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"enum": ["0.5", "0.4", 0.5, 0.4]})
    }
}

/// A multiscales group: an image, or labels, and its levels.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// What viewers call it.
    pub name: String,
    /// Grey values or labels.
    pub kind: GroupKind,
    /// Path of each level's array in the group and where its voxels lie, finest first. All have the same axes.
    pub levels: Vec<(String, Geometry)>,
    /// How a level was made of the one before.
    pub by: Reduce,
    /// Path from a group of labels to the image that they are of, where that is known: `../..`.
    pub labels_of: Option<String>,
    /// What voxmill keeps beside OME's attributes, as `voxmill`; nothing where it is empty.
    pub ours: Map<String, Value>,
    /// What is written.
    pub ome: OmeVersion,
}

impl Group {
    /// An image of one level, whose array is `0`, in the newest version.
    pub fn single(name: &str, kind: GroupKind, geometry: Geometry) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            levels: vec![("0".to_owned(), geometry)],
            by: Reduce::Mean,
            labels_of: None,
            ours: Map::new(),
            ome: OmeVersion::default(),
        }
    }

    /// The group's attributes: what stands below `ome` in 0.5, at the top in 0.4.
    fn attributes(&self) -> Map<String, Value> {
        let version = self.ome.name();
        let axes: Vec<Value> = self
            .levels
            .first()
            .map(|(_, geometry)| geometry.axes())
            .unwrap_or_default()
            .iter()
            .map(|axis| {
                let kind = match axis.kind {
                    Kind::Space => "space",
                    Kind::Time => "time",
                    Kind::Channel => "channel",
                };
                match &axis.unit {
                    Some(unit) => json!({"name": axis.name, "type": kind, "unit": unit}),
                    None => json!({"name": axis.name, "type": kind}),
                }
            })
            .collect();
        let datasets: Vec<Value> = self
            .levels
            .iter()
            .map(|(path, geometry)| {
                let scale: Vec<f64> = geometry.axes().iter().map(|axis| axis.scale).collect();
                let translation: Vec<f64> = geometry.axes().iter().map(|axis| axis.translation).collect();
                json!({
                    "path": path,
                    "coordinateTransformations": [
                        {"type": "scale", "scale": scale},
                        {"type": "translation", "translation": translation},
                    ],
                })
            })
            .collect();
        let mut image = json!({"name": self.name, "axes": axes, "datasets": datasets});
        if self.levels.len() > 1 {
            image["type"] = json!(self.by.name());
        }
        let mut attributes = Map::new();
        match self.ome {
            OmeVersion::V04 => image["version"] = json!(version),
            OmeVersion::V05 => drop(attributes.insert("version".to_owned(), json!(version))),
        }
        attributes.insert("multiscales".to_owned(), json!([image]));
        if self.kind == GroupKind::Labels {
            let mut labels = json!({"version": version});
            if let Some(image) = &self.labels_of {
                labels["source"] = json!({"image": image});
            }
            attributes.insert("image-label".to_owned(), labels);
        }
        attributes
    }

    /// The documents by key, relative to the group, in the order in which they are to be written: what makes an image of
    /// it comes last.
    pub fn documents(&self) -> Vec<(&'static str, Bytes)> {
        let ours = (!self.ours.is_empty()).then(|| ("voxmill".to_owned(), Value::Object(self.ours.clone())));
        match self.ome {
            OmeVersion::V04 => group_documents(self.ome, self.attributes().into_iter().chain(ours).collect()),
            OmeVersion::V05 => {
                let ome = ("ome".to_owned(), Value::Object(self.attributes()));
                group_documents(self.ome, std::iter::once(ome).chain(ours).collect())
            }
        }
    }

    /// Writes the documents; `store` has the group as its root. Every array must be whole by now.
    pub async fn publish(&self, store: &Store) -> Result<Vec<Written>> {
        put_all(store, self.documents()).await
    }
}

/// The documents of a group with such attributes.
pub(super) fn group_documents(ome: OmeVersion, attributes: Map<String, Value>) -> Vec<(&'static str, Bytes)> {
    match ome {
        OmeVersion::V04 => {
            vec![(".zgroup", document(&json!({"zarr_format": 2}))), (".zattrs", document(&Value::Object(attributes)))]
        }
        OmeVersion::V05 => {
            let group = json!({"zarr_format": 3, "node_type": "group", "attributes": attributes});
            vec![("zarr.json", document(&group))]
        }
    }
}

pub(super) fn document(value: &Value) -> Bytes {
    Bytes::from(format!("{value:#}\n"))
}

/// Writes documents in this order; gives what was written, with keys below the store's root.
pub(super) async fn put_all(store: &Store, documents: Vec<(&'static str, Bytes)>) -> Result<Vec<Written>> {
    let mut written = Vec::with_capacity(documents.len());
    for (key, document) in documents {
        written.push(Written::of(key, &document));
        store.put(key, document).await?;
    }
    Ok(written)
}
