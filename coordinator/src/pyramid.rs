//! Levels of an image that is there: for `voxmill import`, which ends with them, and `voxmill pyramid`, which adds them
//! to a group that somebody else wrote.
//!
//! Voxels come first, then the metadata of the new arrays, and last, replaced in one piece, that of the group: until
//! then it is what it was. How a level is made is `pipeline`'s.

use std::sync::Arc;

use pipeline::array::{Array, ArraySpec, ChunkCache, Geometry, Group, GroupKind, METADATA_KEYS, Pyramid};
use pipeline::job::{Shards, Write};
use pipeline::plan::memory::Resources;
use pipeline::pyramid::{self, Level, Levels, Shrink};
use pipeline::step::PerAxis;
use pipeline::store::{Store, Stores};
use pipeline::{Error, Result};
use serde_json::{Map, Value};
use tokio::task::JoinSet;
use voxel::Extent;
use voxel::pyramid::{Halving, Reduce};

use crate::import::DEFAULT_CODEC;
use crate::units::{Bytes, count};

/// What `voxmill pyramid` may be told.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many levels there are to be.
    pub levels: Levels,
    /// Chunks of the new levels; by default as those of the image.
    pub chunks: Option<PerAxis<usize>>,
    /// Their shards; the same.
    pub shards: Option<Shards>,
    /// Their codec; without, [`DEFAULT_CODEC`].
    pub codec: Option<String>,
    /// Whether the image is one of labels; by default as its metadata says.
    pub kind: Option<GroupKind>,
    /// Makes levels anew that are there.
    pub overwrite: bool,
    /// Memory and threads.
    pub resources: Resources,
}

/// A group as `voxmill pyramid` left it.
#[derive(Clone, Debug)]
pub struct Made {
    /// The group.
    pub url: String,
    /// Shape of every level along the image's axes, finest first.
    pub shapes: Vec<Vec<usize>>,
    /// How many of them are new.
    pub new: usize,
}

/// The levels still to be made of an image, and where each goes.
struct Work<'a> {
    store: &'a Store,
    /// The first is there; each other is made of the one before.
    levels: &'a [Level],
    /// The path of each level's array in the group.
    paths: &'a [String],
    /// How the new arrays are stored, but for their shape.
    spec: &'a ArraySpec,
    /// Lengths of the axes stored before those of the image.
    lengths: &'a [usize],
    by: Reduce,
    resources: &'a Resources,
}

/// Where the level that is there is read.
enum First<'a> {
    /// It has no metadata yet.
    Unpublished(&'a ArraySpec),
    /// Level so-and-so of a group.
    Of(&'a Pyramid, usize),
}

/// Ends an import: makes the levels of the image that was written to path `0` of `store`, then publishes all, with these
/// attributes of our own.
pub(crate) async fn finish(
    store: &Store,
    image: &ArraySpec,
    geometry: &Geometry,
    attributes: Map<String, Value>,
    wish: Levels,
    resources: &Resources,
) -> Result<()> {
    let by = pyramid::reduce_of(GroupKind::Image, image.dtype);
    let levels = pyramid::levels(image.extent, geometry, by, wish);
    let paths: Vec<String> = (0..levels.len()).map(|n| n.to_string()).collect();
    let work = Work { store, levels: &levels, paths: &paths, spec: image, lengths: &[], by, resources };
    work.write(First::Unpublished(image), &mut |_, _| {}).await?;
    for (level, path) in levels.iter().zip(&paths) {
        pyramid::level_spec(image, level.extent).publish(&store.child(path)?).await?;
    }
    let name = store.url().rsplit('/').next().unwrap_or_default();
    let group = Group {
        name: name.strip_suffix(".zarr").unwrap_or(name).to_owned(),
        kind: GroupKind::Image,
        levels: paths.iter().cloned().zip(levels.iter().map(|level| level.geometry.clone())).collect(),
        by,
        labels_of: None,
        ours: attributes,
        ome: image.ome,
    };
    group.publish(store).await?;
    Ok(())
}

/// Refuses an import whose levels could not be made in that memory, before anything is written.
pub(crate) fn check_memory(
    store: &Store,
    image: &ArraySpec,
    geometry: &Geometry,
    wish: Levels,
    resources: &Resources,
) -> Result<()> {
    let by = pyramid::reduce_of(GroupKind::Image, image.dtype);
    let levels = pyramid::levels(image.extent, geometry, by, wish);
    for (n, level) in levels.iter().enumerate().skip(1) {
        let before = pyramid::level_spec(image, levels[n - 1].extent);
        let finer = Array::unpublished(&store.child(&(n - 1).to_string())?, &before)?;
        let halving = Halving { factors: level.step, by };
        let shrink = Shrink { finer, halving, spec: pyramid::level_spec(image, level.extent) };
        objects_at_once(&shrink, n, resources)?;
    }
    Ok(())
}

/// Adds levels to the group at `url`. `progress` is called with the voxels of the new levels done, and all of them.
///
/// # Errors
/// Invalid when there is no group that takes levels, and when `options` don't fit it; Data for damaged chunks. The
/// group stays as it was.
pub async fn pyramid(
    stores: &Stores,
    url: &str,
    options: &Options,
    mut progress: impl FnMut(u64, u64),
) -> Result<Made> {
    let group = Pyramid::open(stores, url).await?;
    let (store, finest) = (group.store(), group.finest());
    let by = pyramid::reduce_of(options.kind.unwrap_or(group.kind()), finest.dtype());
    let keep = if options.overwrite { 1 } else { group.paths().len() };
    let wish = match options.levels {
        Levels::Auto => Levels::Auto,
        Levels::Count(n) if n < keep => {
            let hint = "make them anew with --overwrite, which keeps the first only";
            return Err(Error::invalid(format!("{url} has {keep} levels already, and was to have {n}")).hint(hint));
        }
        Levels::Count(n) => Levels::Count(n - keep + 1),
    };
    let mut shapes = Vec::new();
    for level in 0..keep {
        let extent = group.level(level, &vec![0; group.lengths().len()]).await?.extent();
        shapes.push(extent.axes().map(|a| extent.shape[a]).collect::<Vec<usize>>());
    }
    let last = group.level(keep - 1, &vec![0; group.lengths().len()]).await?;
    let levels = pyramid::levels(last.extent(), last.geometry(), by, wish);
    let new = levels.len() - 1;
    if new == 0 && keep == group.paths().len() {
        return Ok(Made { url: store.url().to_owned(), shapes, new });
    }

    let spec = array_spec(&group, options)?;
    let mut paths = vec![group.paths()[keep - 1].clone()];
    paths.extend(free_paths(&group, new).await?);
    let work = Work {
        store,
        levels: &levels,
        paths: &paths,
        spec: &spec,
        lengths: group.lengths(),
        by,
        resources: &options.resources,
    };
    work.write(First::Of(&group, keep - 1), &mut progress).await?;
    let added: Vec<(String, Level)> = paths.into_iter().zip(levels).skip(1).collect();
    for (path, level) in &added {
        let array = store.child(path)?;
        for (key, document) in pyramid::level_spec(&spec, level.extent).metadata_of(group.lengths()) {
            array.put(key, document).await?;
        }
        shapes.push(level.extent.axes().map(|a| level.extent.shape[a]).collect());
    }
    let (key, document) = group.with_levels(keep, &added, by)?;
    store.put(key, document).await?;
    // Gathered metadata knows nothing of the new levels, and readers that find it look no further.
    store.delete(".zmetadata").await?;
    for old in &group.paths()[keep..] {
        let array = store.child(old)?;
        for key in METADATA_KEYS {
            array.delete(key).await?;
        }
        store.delete_prefix(old).await?;
    }
    Ok(Made { url: store.url().to_owned(), shapes, new })
}

/// How the new levels are stored: as the finest is, or as was asked for.
fn array_spec(group: &Pyramid, options: &Options) -> Result<ArraySpec> {
    let finest = group.finest();
    let (extent, chunk) = (finest.extent(), finest.chunk());
    let listed = |cell: [usize; 3]| PerAxis::Each(extent.axes().map(|a| cell[a]).collect());
    // Clipped to the image, a shard need not be whole chunks any more.
    let counts = finest.shard().map(|shard| std::array::from_fn(|a| shard[a].div_ceil(chunk[a])));
    let write = Write {
        chunks: options.chunks.clone().unwrap_or_else(|| listed(chunk)),
        shards: options.shards.clone().unwrap_or_else(|| counts.map_or(Shards::None, |n| Shards::Chunks(listed(n)))),
        ome: group.ome(),
        ..Write::default()
    };
    write.validate()?;
    let (chunks, shards) = write.shapes(&extent)?;
    let codec = options.codec.as_deref().map_or(Ok(DEFAULT_CODEC), str::parse)?;
    let spec = ArraySpec {
        extent,
        dtype: finest.dtype(),
        chunks,
        shards,
        codec,
        dimension_names: finest.geometry().names(),
        ome: group.ome(),
    };
    spec.check()?;
    Ok(spec)
}

/// Paths for so many new levels: the next numbers under which nothing opens. What an interrupted call left there goes.
async fn free_paths(group: &Pyramid, wanted: usize) -> Result<Vec<String>> {
    let store = group.store();
    let mut paths = Vec::new();
    let mut number = 1;
    while paths.len() < wanted {
        let path = number.to_string();
        number += 1;
        let array = store.child(&path)?;
        if group.paths().iter().all(|used| used.trim_matches('/') != path) && is_chunks_only(&array).await? {
            store.delete_prefix(&path).await?;
            paths.push(path);
        }
    }
    Ok(paths)
}

/// Whether there is nothing, or nothing but chunks without any metadata.
async fn is_chunks_only(array: &Store) -> Result<bool> {
    let is_index = |name: &String| name.bytes().all(|byte| byte.is_ascii_digit());
    let there = array.children("").await?;
    if !there.objects.iter().all(is_index) || !there.folders.iter().all(|name| name == "c" || is_index(name)) {
        return Ok(false);
    }
    for folder in &there.folders {
        let folder = array.children(folder).await?;
        if folder.objects.iter().any(|name| METADATA_KEYS.contains(&name.as_str())) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Objects of a level that are made at once: as many as there are threads, or as fit.
///
/// # Errors
/// Invalid when not even one fits.
fn objects_at_once(shrink: &Shrink, level: usize, resources: &Resources) -> Result<usize> {
    let fit = resources.memory_bytes.saturating_sub(resources.process_bytes()) / shrink.object_bytes();
    if fit > 0 {
        return Ok((resources.threads as u64).min(fit) as usize);
    }
    let least = resources.process_bytes() + shrink.object_bytes();
    Err(Error::invalid(format!(
        "making level {level} needs {} of memory with {} of {:?} voxels, but --memory is {}",
        Bytes(least),
        if shrink.spec.shards.is_some() { "shards" } else { "chunks" },
        shrink.spec.unit_shape(),
        Bytes(resources.memory_bytes),
    ))
    .hint(format!(
        "give it --memory {}MiB, or make --shards or --chunks smaller, or leave the levels out",
        least.div_ceil(1 << 20)
    )))
}

impl Work<'_> {
    /// Writes the voxels of every level but the first.
    async fn write(&self, first: First<'_>, progress: &mut impl FnMut(u64, u64)) -> Result<()> {
        let images = self.lengths.iter().product::<usize>() as u64;
        let voxels = |extent: Extent| extent.region().voxels() as u64 * images;
        let all = self.levels.iter().skip(1).map(|level| voxels(level.extent)).sum();
        let mut done = 0;
        progress(done, all);
        for n in 1..self.levels.len() {
            let level = &self.levels[n];
            let spec = pyramid::level_spec(self.spec, level.extent);
            let halving = Halving { factors: level.step, by: self.by };
            for image in 0..images {
                let at = self.index(image);
                let finer = match (&first, n) {
                    (First::Of(group, level), 1) => group.level(*level, &at).await?,
                    (First::Unpublished(spec), 1) => self.unpublished(0, spec, &at)?,
                    _ => self.unpublished(n - 1, &pyramid::level_spec(self.spec, self.levels[n - 1].extent), &at)?,
                };
                let shrink = Shrink { finer, halving, spec: spec.clone() };
                done += self.write_image(shrink, n, &at, &mut |voxels| progress(done + voxels, all)).await?;
            }
        }
        Ok(())
    }

    /// Writes one image of a level, as many objects at once as there are threads or as fit, and returns its voxels.
    async fn write_image(
        &self,
        shrink: Shrink,
        level: usize,
        at: &[usize],
        progress: &mut impl FnMut(u64),
    ) -> Result<u64> {
        let at_once = objects_at_once(&shrink, level, self.resources)?;
        let spare = self.resources.memory_bytes.saturating_sub(self.resources.process_bytes());
        let cache = ChunkCache::new((spare - at_once as u64 * shrink.object_bytes()) as usize / 2);
        let store = self.store.child(&self.paths[level])?;
        let region = shrink.spec.extent.region();
        let mut objects = shrink.spec.objects_in(region);
        let shrink = Arc::new(shrink);
        let mut writing = JoinSet::new();
        let mut done = 0;
        loop {
            while writing.len() < at_once
                && let Some(index) = objects.next()
            {
                let (shrink, cache, store) = (shrink.clone(), cache.clone(), store.clone());
                let key = shrink.spec.key_at(at, index);
                writing.spawn(async move {
                    let bytes = shrink.object(&cache, index).await?;
                    store.put(&key, bytes).await?;
                    Ok::<_, Error>(shrink.spec.object_region(index).voxels() as u64)
                });
            }
            let Some(written) = writing.join_next().await else { return Ok(done) };
            done += written.map_err(|e| Error::internal(format!("a task of the pyramid died: {e}")))??;
            progress(done);
        }
    }

    fn unpublished(&self, level: usize, spec: &ArraySpec, at: &[usize]) -> Result<Array> {
        Array::unpublished_at(&self.store.child(&self.paths[level])?, spec, self.lengths, at)
    }

    /// The indices along the leading axes of image number `image`, in C order.
    fn index(&self, mut image: u64) -> Vec<usize> {
        let mut at = vec![0; self.lengths.len()];
        for (at, len) in at.iter_mut().zip(self.lengths).rev() {
            *at = (image % *len as u64) as usize;
            image /= *len as u64;
        }
        at
    }
}

/// What was done, in a sentence.
pub(crate) fn told(made: &Made) -> String {
    let shape = |shape: &Vec<usize>| crate::units::shape(shape);
    let shapes: Vec<String> = made.shapes.iter().map(shape).collect();
    let levels = |n: usize| format!("{} level{}", count(n as u64), if n == 1 { "" } else { "s" });
    match made.new {
        0 => format!("{}: {} already, {}", made.url, levels(shapes.len()), shapes.join(", ")),
        new => format!("{}: {}, {} new, {}", made.url, levels(shapes.len()), count(new as u64), shapes.join(", ")),
    }
}
