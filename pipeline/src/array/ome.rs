//! OME-Zarr multiscales metadata, read in versions 0.1 to 0.5 (<https://ngff.openmicroscopy.org/0.5/>). What is written
//! is [`super::group`]'s.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::axes::{Axis, Kind};

/// What a group holds, in the eyes of a viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupKind {
    /// Grey values.
    Image,
    /// Object numbers: viewers draw each in its own colour.
    Labels,
}

/// The full name OME-Zarr wants for a length unit, from the abbreviations seen in files; other words stay as they are.
pub fn unit_name(unit: &str) -> String {
    let name = match unit.trim() {
        "um" | "\u{b5}m" | "\u{3bc}m" | "micron" | "microns" | "micrometre" | "micrometers" => "micrometer",
        "nm" | "nanometre" | "nanometers" => "nanometer",
        "pm" => "picometer",
        "mm" | "millimetre" | "millimeters" => "millimeter",
        "cm" | "centimetre" | "centimeters" => "centimeter",
        "m" | "metre" | "meters" => "meter",
        "A" | "\u{c5}" | "\u{212b}" | "angstroms" => "angstrom",
        other => other,
    };
    name.to_owned()
}

/// A multiscales group as read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Multiscales {
    /// Empty when the version has no axes: then they go by position.
    pub(super) axes: Vec<Axis>,
    pub(super) levels: Vec<LevelEntry>,
    /// Names of the channels, for messages.
    pub(super) channels: Vec<String>,
}

/// One resolution of a multiscales group. Scale and translation are per stored axis; empty when not given.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LevelEntry {
    pub(super) path: String,
    pub(super) scale: Vec<f64>,
    pub(super) translation: Vec<f64>,
}

#[derive(Deserialize)]
struct MultiscalesDocument {
    #[serde(default)]
    axes: Vec<AxisDocument>,
    datasets: Vec<DatasetDocument>,
    #[serde(default, rename = "coordinateTransformations")]
    transformations: Vec<Transformation>,
}

/// A name alone in version 0.3, an object since.
#[derive(Deserialize)]
#[serde(untagged)]
enum AxisDocument {
    Name(String),
    Axis {
        name: String,
        #[serde(default, rename = "type")]
        kind: Option<String>,
        #[serde(default)]
        unit: Option<String>,
    },
}

#[derive(Deserialize)]
struct DatasetDocument {
    path: String,
    #[serde(default, rename = "coordinateTransformations")]
    transformations: Vec<Transformation>,
}

#[derive(Deserialize)]
struct Transformation {
    #[serde(default)]
    scale: Option<Vec<f64>>,
    #[serde(default)]
    translation: Option<Vec<f64>>,
}

/// A group's OME attributes: below `ome` since 0.5, at the top before.
pub(super) fn attributes(group: &Map<String, Value>) -> &Map<String, Value> {
    group.get("ome").and_then(Value::as_object).unwrap_or(group)
}

/// The first multiscales image of a group, or `None` when it is no image group.
///
/// # Errors
/// What is wrong with its metadata.
pub(super) fn multiscales(group: &Map<String, Value>) -> Result<Option<Multiscales>, String> {
    let group = attributes(group);
    let Some(first) = group.get("multiscales").and_then(|list| list.get(0)) else { return Ok(None) };
    let document = MultiscalesDocument::deserialize(first).map_err(|e| e.to_string())?;
    let axes: Vec<Axis> = document
        .axes
        .into_iter()
        .map(|axis| match axis {
            AxisDocument::Name(name) => Axis { kind: Kind::of_name(&name), name, unit: None },
            AxisDocument::Axis { name, kind, unit } => Axis {
                kind: match kind.as_deref() {
                    Some("space") => Kind::Space,
                    Some("time") => Kind::Time,
                    Some("channel") => Kind::Channel,
                    _ => Kind::of_name(&name),
                },
                name,
                unit: unit.as_deref().map(unit_name),
            },
        })
        .collect();
    let rank = if axes.is_empty() { 5 } else { axes.len() };
    let levels = document
        .datasets
        .into_iter()
        .map(|dataset| {
            // A level's own transformations come first, then those of the whole image.
            let (mut scale, mut translation) = (vec![1.0; rank], vec![0.0; rank]);
            for step in dataset.transformations.iter().chain(&document.transformations) {
                for (a, by) in step.scale.iter().flatten().enumerate().take(rank) {
                    scale[a] *= by;
                    translation[a] *= by;
                }
                for (a, by) in step.translation.iter().flatten().enumerate().take(rank) {
                    translation[a] += by;
                }
            }
            LevelEntry { path: dataset.path, scale, translation }
        })
        .collect();
    let channels = group
        .get("omero")
        .and_then(|omero| omero.get("channels"))
        .and_then(Value::as_array)
        .map(|channels| {
            channels.iter().map(|c| c.get("label").and_then(Value::as_str).unwrap_or("?").to_owned()).collect()
        })
        .unwrap_or_default();
    Ok(Some(Multiscales { axes, levels, channels }))
}
