//! From a URL to the array it means: an array, an image group, an array inside one, a file of several images.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::axes::{self, Axes};
use super::metadata::Metadata;
use super::ome::{self, Multiscales};
use super::{Array, Geometry, Inner, Pick};
use crate::store::{Store, Stores};
use crate::{Error, Kind, Result};

/// Groups within groups that are followed before the search is given up; real files have three.
const DEPTH_MAX: usize = 8;

/// A metadata document of more bytes than this is none; with consolidated metadata they can be long.
const DOCUMENT_BYTES_MAX: u64 = 64 << 20;

/// What the metadata at one place says it is.
enum Node {
    V3(Vec<u8>),
    V2 {
        document: Vec<u8>,
        attributes: Map<String, Value>,
    },
    /// The attributes, and the whole document where there is one (v3).
    Group(Map<String, Value>, Map<String, Value>),
    Nothing,
}

/// A level of an image group on the way to its array.
struct Level {
    image: Multiscales,
    index: usize,
}

impl Array {
    /// Opens the array that `url` means: a Zarr v2 or v3 array; a multiscales group, of which it takes `pick.level`; a
    /// bioformats2raw root, of which it takes `pick.series`; a group with exactly one array. An array that is a level
    /// of the group around it takes its axes and units from there.
    ///
    /// # Errors
    /// Invalid when nothing is there, when it is something else (the message lists what is inside), when a choice is
    /// open, and when the array is of a kind voxmill doesn't read. Unavailable when the store can't answer.
    pub async fn open(stores: &Stores, url: &str, pick: &Pick) -> Result<Array> {
        Self::open_in(&stores.open(url).await?, pick).await
    }

    /// [`Array::open`] for a place in a store that is already open; requests are counted there.
    pub async fn open_in(store: &Store, pick: &Pick) -> Result<Array> {
        let mut store = store.clone();
        let mut level: Option<Level> = None;
        let mut series = pick.series;
        for _ in 0..DEPTH_MAX {
            let (attributes, document) = match node(&store).await? {
                Node::V3(document) => {
                    let metadata = Metadata::from_v3(store.url(), &document)?;
                    return assemble(store, metadata, &document, level, series, pick).await;
                }
                Node::V2 { document, attributes } => {
                    let metadata = Metadata::from_v2(store.url(), &document, attributes)?;
                    return assemble(store, metadata, &document, level, series, pick).await;
                }
                Node::Group(attributes, document) => (attributes, document),
                Node::Nothing if level.is_some() => {
                    return Err(Error::invalid(format!(
                        "{} is named by the group around it, but is not there",
                        store.url()
                    )));
                }
                Node::Nothing => return Err(nothing_to_open(&store).await?),
            };
            let image = ome::multiscales(&attributes).map_err(|e| {
                Error::invalid(format!("the multiscales metadata of {} can't be read: {e}", store.url()))
            })?;
            store = if let Some(image) = image {
                let (chosen, array) = pick_level(&store, image, pick)?;
                level = Some(chosen);
                array
            } else if ome::attributes(&attributes).contains_key("bioformats2raw.layout") {
                let chosen = pick_series(&store, series).await?;
                series = None;
                chosen
            } else {
                only_array(&store, &document).await?
            };
        }
        Err(Error::invalid(format!("{} is nested too deeply to be an image", store.url())))
    }
}

async fn node(store: &Store) -> Result<Node> {
    if let Some(found) = store.get_at_most("zarr.json", DOCUMENT_BYTES_MAX).await? {
        let document = json_object(store, "zarr.json", &found.bytes)?;
        return Ok(match document.get("node_type").and_then(Value::as_str) {
            Some("group") => Node::Group(attributes_of(&document), document),
            _ => Node::V3(found.bytes.to_vec()),
        });
    }
    let attributes = async || match store.get_at_most(".zattrs", DOCUMENT_BYTES_MAX).await? {
        Some(found) => json_object(store, ".zattrs", &found.bytes).map(Some),
        None => Ok(None),
    };
    if let Some(found) = store.get_at_most(".zarray", DOCUMENT_BYTES_MAX).await? {
        return Ok(Node::V2 { document: found.bytes.to_vec(), attributes: attributes().await?.unwrap_or_default() });
    }
    // Read, and not only looked for: servers that know only how to send are served too.
    let group = store.get_at_most(".zgroup", DOCUMENT_BYTES_MAX).await?.is_some();
    Ok(match attributes().await? {
        Some(attributes) => Node::Group(attributes, Map::new()),
        None if group => Node::Group(Map::new(), Map::new()),
        None => Node::Nothing,
    })
}

fn json_object(store: &Store, key: &str, bytes: &[u8]) -> Result<Map<String, Value>> {
    serde_json::from_slice(bytes)
        .map_err(|e| Error::invalid(format!("{} is not a JSON object: {e}", store.display(key))))
}

fn attributes_of(document: &Map<String, Value>) -> Map<String, Value> {
    document.get("attributes").and_then(Value::as_object).cloned().unwrap_or_default()
}

fn pick_level(store: &Store, image: Multiscales, pick: &Pick) -> Result<(Level, Store)> {
    let index = pick.level.unwrap_or(0);
    let Some(entry) = image.levels.get(index) else {
        let last = match image.levels.len() {
            0 => return Err(Error::invalid(format!("{} is an image group without levels", store.url()))),
            n => n - 1,
        };
        return Err(Error::invalid(format!("level {index} was asked for, {} has levels 0 to {last}", store.url())));
    };
    let array = store.child(entry.path.trim_matches('/'))?;
    Ok((Level { image, index }, array))
}

/// Images of a bioformats2raw file that are looked for, one by one, where they can't be listed.
const SERIES_ASKED_FOR: usize = 256;

async fn pick_series(store: &Store, series: Option<usize>) -> Result<Store> {
    // The group `OME` may name the images in order; without it they are the folders 0, 1, ...
    let named: Option<Vec<String>> = match node(&store.child("OME")?).await? {
        Node::Group(attributes, _) => ome::attributes(&attributes)
            .get("series")
            .and_then(Value::as_array)
            .map(|paths| paths.iter().filter_map(|path| path.as_str().map(str::to_owned)).collect()),
        _ => None,
    };
    let paths = match named {
        Some(paths) => paths,
        None if store.can_list() => {
            let folders = store.children("").await?.folders;
            let mut numbers: Vec<usize> = folders.iter().filter_map(|name| name.parse().ok()).collect();
            numbers.sort_unstable();
            numbers.iter().map(usize::to_string).collect()
        }
        None => {
            let mut paths = Vec::new();
            while paths.len() < SERIES_ASKED_FOR
                && !matches!(node(&store.child(&paths.len().to_string())?).await?, Node::Nothing)
            {
                paths.push(paths.len().to_string());
            }
            paths
        }
    };
    match (series, paths.as_slice()) {
        (_, []) => Err(Error::invalid(format!("{} is a bioformats2raw file without images", store.url()))),
        (None, [only]) => store.child(only),
        (Some(wanted), paths) if wanted < paths.len() => store.child(&paths[wanted]),
        (wanted, paths) => {
            let asked = match wanted {
                Some(wanted) => format!("series {wanted} was asked for, {} has", store.url()),
                None => format!("{} holds several images, and one must be chosen:", store.url()),
            };
            Err(Error::invalid(format!("{asked} series 0 to {}", paths.len() - 1))
                .hint("say series = 0 in the job, or --series 0"))
        }
    }
}

/// What lies in a group, as far as can be seen: names of folders that may be arrays or groups.
async fn members(store: &Store, group: &Map<String, Value>) -> Result<Option<Vec<String>>> {
    if store.can_list() {
        return Ok(Some(store.children("").await?.folders));
    }
    // Consolidated metadata holds the documents of everything below: in `zarr.json` since v3, else in `.zmetadata`.
    let paths = match group.get("consolidated_metadata").and_then(|c| c.get("metadata")).and_then(Value::as_object) {
        Some(documents) => documents.keys().cloned().collect::<Vec<_>>(),
        None => match store.get_at_most(".zmetadata", DOCUMENT_BYTES_MAX).await? {
            Some(found) => json_object(store, ".zmetadata", &found.bytes)?
                .get("metadata")
                .and_then(Value::as_object)
                .map(|documents| documents.keys().filter(|key| key.contains('/')).cloned().collect())
                .unwrap_or_default(),
            None => return Ok(None),
        },
    };
    let mut names: Vec<String> =
        paths.iter().filter_map(|path| path.split('/').next()).filter(|n| !n.is_empty()).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    Ok(Some(names))
}

/// The one array of a group that is no image, or an error that lists what is there.
async fn only_array(store: &Store, group: &Map<String, Value>) -> Result<Store> {
    let url = store.url();
    let Some(names) = members(store, group).await? else {
        return Err(Error::invalid(format!("{url} is a group, and a web server doesn't say what is inside"))
            .hint(format!("name the array, as in {}", store.display("0"))));
    };
    let mut arrays = Vec::new();
    let mut inside = Vec::new();
    let mut example = None;
    for name in names {
        let child = store.child(&name)?;
        let what = match node(&child).await? {
            Node::V3(_) | Node::V2 { .. } => {
                arrays.push(child);
                "array"
            }
            Node::Group(attributes, _) if matches!(ome::multiscales(&attributes), Ok(Some(_))) => "image",
            Node::Group(..) => {
                // What is in it is listed in its place: who sees `cells/` must not have to look again.
                let below = readable(&child, &name, DEPTH_LISTED).await?;
                if !below.is_empty() {
                    example =
                        example.or_else(|| below.first().and_then(|first| first.split(" (").next()).map(str::to_owned));
                    inside.extend(below);
                    continue;
                }
                "group"
            }
            Node::Nothing => "no Zarr",
        };
        if ["array", "image"].contains(&what) {
            example.get_or_insert_with(|| name.clone());
        }
        inside.push(format!("{name} ({what})"));
    }
    match <[Store; 1]>::try_from(arrays) {
        Ok([only]) => Ok(only),
        Err(_) if inside.is_empty() => Err(Error::invalid(format!("{url} is an empty group"))),
        Err(_) => {
            let error = Error::invalid(format!("{url} is a group; inside are {}", listed(&inside)));
            Err(match example {
                Some(name) => error.hint(format!("name one of them, as in {}", store.display(&name))),
                None => error,
            })
        }
    }
}

/// Groups within a group that are looked into for a message.
const DEPTH_LISTED: usize = 3;

/// Arrays and images of one group that are looked at for a message.
const MEMBERS_LISTED: usize = 16;

/// The arrays and images in the group at `store`, which the message calls `path`.
async fn readable(store: &Store, path: &str, depth: usize) -> Result<Vec<String>> {
    let mut found = Vec::new();
    if depth == 0 || !store.can_list() {
        return Ok(found);
    }
    for name in store.children("").await?.folders.into_iter().take(MEMBERS_LISTED) {
        let (child, path) = (store.child(&name)?, format!("{path}/{name}"));
        match node(&child).await? {
            Node::V3(_) | Node::V2 { .. } => found.push(format!("{path} (array)")),
            Node::Group(attributes, _) if matches!(ome::multiscales(&attributes), Ok(Some(_))) => {
                found.push(format!("{path} (image)"));
            }
            Node::Group(..) => found.extend(Box::pin(readable(&child, &path, depth - 1)).await?),
            Node::Nothing => {}
        }
        if found.len() > MEMBERS_LISTED {
            break;
        }
    }
    Ok(found)
}

/// Why there is no node at the place asked for.
async fn nothing_to_open(store: &Store) -> Result<Error> {
    let url = store.url();
    // A web server may answer for a folder, with a page about it; a name that promises a file is believed.
    if (store.can_list() || file_kind(url).is_some()) && store.is_object().await? {
        return Ok(match file_kind(url) {
            Some((kind, stem)) => Error::invalid(format!("{url} is a {kind} file, not a Zarr array"))
                .hint(format!("voxmill import {url} {stem}.zarr")),
            None => Error::invalid(format!("{url} is a file, not a Zarr array")),
        });
    }
    if !store.can_list() {
        return Ok(Error::invalid(format!("nothing at {url}: there is no zarr.json, .zarray, .zgroup or .zattrs")));
    }
    let inside = store.children("").await?;
    let names: Vec<String> = inside.folders.iter().map(|name| format!("{name}/")).chain(inside.objects).collect();
    Ok(if names.is_empty() {
        Error::invalid(format!("nothing at {url}"))
    } else {
        Error::invalid(format!("{url} is not a Zarr array or group; inside are {}", listed(&names)))
    })
}

/// The format that a file name promises, and the name without its extension.
fn file_kind(url: &str) -> Option<(&'static str, &str)> {
    let kinds = [
        (".ome.tiff", "TIFF"),
        (".ome.tif", "TIFF"),
        (".tiff", "TIFF"),
        (".tif", "TIFF"),
        (".nii.gz", "NIfTI"),
        (".nii", "NIfTI"),
        (".npy", "NPY"),
        (".npz", "NPZ"),
        (".nrrd", "NRRD"),
        (".nhdr", "NRRD"),
        (".raw", "raw"),
    ];
    kinds.into_iter().find_map(|(extension, kind)| {
        let cut = url.len().checked_sub(extension.len())?;
        let stem = url.get(..cut)?;
        url.get(cut..)?.eq_ignore_ascii_case(extension).then_some((kind, stem))
    })
}

fn listed(names: &[String]) -> String {
    const SHOWN: usize = 12;
    match names.len() {
        n if n > SHOWN => format!("{} and {} more", names[..SHOWN].join(", "), n - SHOWN),
        _ => names.join(", "),
    }
}

async fn assemble(
    store: Store,
    metadata: Metadata,
    document: &[u8],
    level: Option<Level>,
    series: Option<usize>,
    pick: &Pick,
) -> Result<Array> {
    let url = store.url();
    if let Some(series) = series.filter(|series| *series > 0) {
        return Err(Error::invalid(format!("series {series} was asked for, {url} is a single image")));
    }
    let level = match level {
        Some(level) => Some(level),
        None => {
            let around = level_around(&store).await?;
            // The URL itself names the array, so a level can only confirm it.
            let own = around.as_ref().map_or(0, |level| level.index);
            if let Some(asked) = pick.level.filter(|asked| *asked != own && *asked != 0) {
                return Err(Error::invalid(format!("level {asked} was asked for, {url} is a single array"))
                    .hint("give the URL of the group around it"));
            }
            around
        }
    };
    let axes = match &level {
        Some(level) if level.image.axes.len() == metadata.shape.len() => level.image.axes.clone(),
        // Versions 0.1 and 0.2 have no axes: then the array's own names count, and its positions.
        Some(level) if level.image.axes.is_empty() => axes::by_name(metadata.names.as_deref(), metadata.shape.len()),
        Some(level) => {
            return Err(Error::invalid(format!(
                "{url} has {} axes, the image metadata around it has {}",
                metadata.shape.len(),
                level.image.axes.len()
            )));
        }
        None => axes::by_name(metadata.names.as_deref(), metadata.shape.len()),
    };
    if !(2..=5).contains(&metadata.shape.len()) {
        let n = metadata.shape.len();
        return Err(Error::invalid(format!(
            "{url} has {n} {}; voxmill reads images of two or three axes, with time and channels up to five",
            if n == 1 { "axis" } else { "axes" }
        )));
    }
    let channels = level.as_ref().map_or(&[][..], |level| &level.image.channels);
    let picked = Axes::pick(url, &metadata.shape, &axes, channels, pick)?;

    let spatial = |values: &[f64], unknown: f64| -> [f64; 3] {
        picked.spatial.map(|axis| axis.and_then(|axis| values.get(axis)).copied().unwrap_or(unknown))
    };
    let entry = level.as_ref().and_then(|level| level.image.levels.get(level.index));
    let scale = spatial(entry.map_or(&[], |entry| &entry.scale), 1.0);
    let translation = spatial(entry.map_or(&[], |entry| &entry.translation), 0.0);
    if scale.iter().any(|s| !(s.is_finite() && *s > 0.0)) || translation.iter().any(|t| !t.is_finite()) {
        return Err(Error::invalid(format!(
            "{url} has voxels of size {scale:?} at {translation:?}; sizes must be positive"
        )));
    }
    let geometry = Geometry::read(&axes, &picked, entry);
    let units = picked.spatial.map(|axis| axis.and_then(|axis| axes.get(axis)).and_then(|axis| axis.unit.clone()));

    let mut hash = Sha256::new();
    for part in [url.as_bytes(), document, format!("{picked:?} {scale:?} {translation:?} {units:?}").as_bytes()] {
        // Lengths keep the parts apart.
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let hash: [u8; 32] = hash.finalize().into();
    let mut id = [0; 16];
    id.copy_from_slice(&hash[..16]);
    let (levels, level) = match level {
        Some(level) => (level.image.levels.into_iter().map(|entry| entry.path).collect(), level.index),
        None => (Vec::new(), 0),
    };
    let fingerprint = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Array(std::sync::Arc::new(Inner {
        store,
        metadata,
        axes: picked,
        units,
        scale,
        translation,
        geometry,
        levels,
        level,
        fingerprint,
        id,
    })))
}

/// The level of the image group one folder up that this array is, if it is one.
async fn level_around(store: &Store) -> Result<Option<Level>> {
    let Some((above, name)) = store.parent() else { return Ok(None) };
    let attributes = match node(&above).await {
        Ok(Node::Group(attributes, _)) => attributes,
        Ok(_) => return Ok(None),
        // Permission to read an array need not reach what lies around it. A store that can't answer now must not
        // change the units of the result.
        Err(e) if e.kind == Kind::Unavailable => return Err(e),
        Err(_) => return Ok(None),
    };
    let Ok(Some(image)) = ome::multiscales(&attributes) else { return Ok(None) };
    let index = image.levels.iter().position(|entry| entry.path.trim_matches('/') == name);
    Ok(index.map(|index| Level { image, index }))
}
