//! Adding levels to a multiscales group that somebody else wrote: what there is, and its document with more levels in
//! it. All else in the document stays as it is: channels, colours, other versions' keys.

use bytes::Bytes;
use serde_json::{Map, Value, json};
use voxel::pyramid::Reduce;

use super::axes::Kind;
use super::group::document;
use super::{Array, Geometry, GroupKind, OmeVersion, Pick};
use crate::pyramid::Level;
use crate::store::{Store, Stores};
use crate::{Error, Result};

/// A multiscales group of OME-Zarr 0.4 or 0.5, open to be given levels.
#[derive(Debug)]
pub struct Pyramid {
    store: Store,
    ome: OmeVersion,
    /// The document that holds the multiscales.
    document: Value,
    /// The finest level, at the first of each leading axis.
    finest: Array,
    /// Lengths of the leading axes.
    lengths: Vec<usize>,
}

impl Pyramid {
    /// Opens the group at `url`.
    ///
    /// # Errors
    /// Invalid when there is no such group; when it is of another version; when its axes are not in the order that
    /// OME-Zarr asks for.
    pub async fn open(stores: &Stores, url: &str) -> Result<Self> {
        Self::open_in(stores.open(url).await?).await
    }

    /// Opens the group at the root of `store`; see [`Pyramid::open`].
    pub(crate) async fn open_in(store: Store) -> Result<Self> {
        let url = store.url().to_owned();
        // Whatever is there instead is told as everywhere.
        let finest = Self::first(&store).await?;
        let v3 = store.get("zarr.json").await?;
        let (ome, key) = if v3.is_some() { (OmeVersion::V05, "zarr.json") } else { (OmeVersion::V04, ".zattrs") };
        let found = if v3.is_some() { v3 } else { store.get(key).await? };
        let found = found.ok_or_else(|| no_group(&store, &finest))?;
        let document: Value = serde_json::from_slice(&found.bytes)
            .map_err(|e| Error::invalid(format!("{} is not JSON: {e}", store.display(key))))?;
        let mut group = Self { store, ome, document, finest, lengths: Vec::new() };
        let Some(image) = group.image() else { return Err(no_group(&group.store, &group.finest)) };
        let version = match ome {
            OmeVersion::V05 => group.attributes().and_then(|ome| ome.get("version")),
            OmeVersion::V04 => image.get("version"),
        };
        let version = version.and_then(Value::as_str).unwrap_or("no version");
        if version != ome.name() {
            return Err(Error::invalid(format!(
                "{} is OME-Zarr {version}, and levels can be added to 0.4 and 0.5",
                url
            ))
            .hint("import it again, or run a job on it, which writes levels"));
        }
        let names: Vec<&str> = image
            .get("axes")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|axis| axis.get("name")?.as_str())
            .collect();
        let geometry = group.finest.geometry();
        if geometry.names() != names {
            return Err(Error::invalid(format!(
                "{url} has the axes {}, and OME-Zarr wants time, channel, space",
                names.join(", ")
            )));
        }
        let leading = geometry.axes().iter().filter(|axis| axis.kind != Kind::Space).count();
        group.lengths = group.finest.stored_shape()[..leading].iter().map(|n| *n as usize).collect();
        Ok(group)
    }

    /// The finest level at the first time and channel, whether or not there are more.
    async fn first(store: &Store) -> Result<Array> {
        Array::open_in(store, &Pick { channel: Some(0), time: Some(0), ..Pick::default() }).await
    }

    /// The group.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Its version.
    pub fn ome(&self) -> OmeVersion {
        self.ome
    }

    /// Whether its metadata says that it holds labels.
    pub fn kind(&self) -> GroupKind {
        if self.attributes().is_some_and(|ome| ome.contains_key("image-label")) {
            GroupKind::Labels
        } else {
            GroupKind::Image
        }
    }

    /// Paths of its levels, finest first.
    pub fn paths(&self) -> &[String] {
        self.finest.levels()
    }

    /// Its finest level, at the first time and channel.
    pub fn finest(&self) -> &Array {
        &self.finest
    }

    /// Lengths of the axes that are stored before those of the image: time and channel, as far as it has them.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Level `level` at the indices `at` of the leading axes.
    pub async fn level(&self, level: usize, at: &[usize]) -> Result<Array> {
        let mut pick = Pick { level: Some(level), ..Pick::default() };
        for (axis, at) in self.finest.geometry().axes().iter().zip(at) {
            match axis.kind {
                Kind::Time => pick.time = Some(*at),
                Kind::Channel => pick.channel = Some(*at),
                Kind::Space => {}
            }
        }
        Array::open_in(&self.store, &pick).await
    }

    /// The group's document, by its key, with its first `keep` levels and then `added`: each a path, and what it is in
    /// relation to the last level that is kept. Metadata gathered from below, which would hide the new levels, is left
    /// out.
    ///
    /// # Errors
    /// Internal when `keep` is none of its levels.
    pub fn with_levels(&self, keep: usize, added: &[(String, Level)], by: Reduce) -> Result<(&'static str, Bytes)> {
        let broken = || Error::internal(format!("{} was to keep {keep} levels", self.store.url()));
        let mut changed = self.document.clone();
        if let Some(group) = changed.as_object_mut() {
            group.remove("consolidated_metadata");
        }
        let pointer = match self.ome {
            OmeVersion::V05 => "/attributes/ome/multiscales/0",
            OmeVersion::V04 => "/multiscales/0",
        };
        let image = changed.pointer_mut(pointer).and_then(Value::as_object_mut).ok_or_else(broken)?;
        let datasets = image.get_mut("datasets").and_then(Value::as_array_mut).ok_or_else(broken)?;
        datasets.truncate(keep);
        let last = Placed::of(datasets.last().ok_or_else(broken)?, self.finest.geometry());
        datasets.extend(added.iter().map(|(path, level)| last.shrunk(level.factors, by).dataset(path)));
        if datasets.len() > 1 {
            image.insert("type".to_owned(), json!(by.name()));
        }
        Ok((if self.ome == OmeVersion::V05 { "zarr.json" } else { ".zattrs" }, document(&changed)))
    }

    fn attributes(&self) -> Option<&Map<String, Value>> {
        let pointer = if self.ome == OmeVersion::V05 { "/attributes/ome" } else { "" };
        self.document.pointer(pointer)?.as_object()
    }

    fn image(&self) -> Option<&Map<String, Value>> {
        self.attributes()?.get("multiscales")?.get(0)?.as_object()
    }
}

fn no_group(store: &Store, found: &Array) -> Error {
    let hint = match found.store().parent() {
        Some((group, _)) if !found.levels().is_empty() => format!("name the group itself: {}", group.url()),
        _ => "levels are added to OME-Zarr groups; `voxmill import` and `voxmill run` make them".to_owned(),
    };
    Error::invalid(format!("{} is not a multiscales group", store.url())).hint(hint)
}

/// Scale and translation of a level along its stored axes, as its own entry has them: what is said of all levels
/// together comes on top.
struct Placed {
    scale: Vec<f64>,
    translation: Vec<f64>,
    /// z, y, x for the stored axes of space.
    space: Vec<Option<usize>>,
}

impl Placed {
    fn of(dataset: &Value, geometry: &Geometry) -> Self {
        let axes = geometry.axes();
        let mut a = 3;
        let mut space: Vec<Option<usize>> = axes
            .iter()
            .rev()
            .map(|axis| {
                (axis.kind == Kind::Space && a > 0).then(|| {
                    a -= 1;
                    a
                })
            })
            .collect();
        space.reverse();
        let (mut scale, mut translation) = (vec![1.0; axes.len()], vec![0.0; axes.len()]);
        let steps = dataset.get("coordinateTransformations").and_then(Value::as_array);
        for step in steps.into_iter().flatten() {
            let numbers = |key: &str| -> Vec<f64> {
                let list = step.get(key).and_then(Value::as_array);
                list.into_iter().flatten().filter_map(Value::as_f64).collect()
            };
            for (a, by) in numbers("scale").into_iter().enumerate().take(axes.len()) {
                scale[a] *= by;
                translation[a] *= by;
            }
            for (a, by) in numbers("translation").into_iter().enumerate().take(axes.len()) {
                translation[a] += by;
            }
        }
        Self { scale, translation, space }
    }

    fn shrunk(&self, factors: [usize; 3], by: Reduce) -> Self {
        let (mut scale, mut translation) = (self.scale.clone(), self.translation.clone());
        for (i, a) in self.space.iter().enumerate() {
            let factor = a.map_or(1.0, |a| factors[a] as f64);
            if by == Reduce::Mean {
                translation[i] += scale[i] * (factor - 1.0) / 2.0;
            }
            scale[i] *= factor;
        }
        Self { scale, translation, space: self.space.clone() }
    }

    fn dataset(&self, path: &str) -> Value {
        json!({
            "path": path,
            "coordinateTransformations": [
                {"type": "scale", "scale": self.scale},
                {"type": "translation", "translation": self.translation},
            ],
        })
    }
}
