//! Whether a finished run's answers are what it wrote, and what it wrote is right: every object against the manifest, and
//! windows of the images, across the seams of blocks, computed anew without any blocks.
//!
//! A window of a filtered or thresholded image must be the same bit for bit. Labels are numbered over the whole image, so
//! of them a window must say the same as the image they were made of: the same voxels are foreground, neighbours have one
//! label.

use futures::{StreamExt, stream};
use serde::Serialize;
use voxel::label::Connectivity;
use voxel::{AnyVolume, Dtype, Region, Volume};

use crate::array::{Array, ArraySpec, ChunkCache};
use crate::map;
use crate::op::{Label, Op};
use crate::plan::{Input, Plan, Stored};
use crate::publish::Manifest;
use crate::sources::Sources;
use crate::store::Store;
use crate::task::Written;
use crate::{Error, Result, layout};

/// Objects that are read at once.
const OBJECTS_IN_FLIGHT: usize = 4;
/// Bytes of an object that are read at once.
const PART_BYTES: u64 = 8 << 20;
/// Voxels along each side of a window.
const WINDOW: usize = 32;

/// What was looked at, and what is wrong.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verified {
    /// Objects that were read.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Windows that were computed anew.
    pub windows: u64,
    /// Their voxels.
    pub voxels: u64,
    /// What is not as it should be.
    pub faults: Vec<String>,
    /// What could not be computed anew, and why.
    pub left_out: Vec<String>,
}

/// Reads every object of a finished run and compares it with what was written.
pub async fn objects(
    store: &Store,
    manifest: &Manifest,
    verified: &mut Verified,
    done: impl Fn(u64, u64),
) -> Result<()> {
    let count = (manifest.documents.len() + manifest.written.len()) as u64;
    let all = manifest.documents.iter().chain(&manifest.written);
    let mut checks = stream::iter(all.map(|written| check(store, written))).buffered(OBJECTS_IN_FLIGHT);
    while let Some(checked) = checks.next().await {
        match checked? {
            Ok(bytes) => verified.bytes += bytes,
            Err(fault) => verified.faults.push(fault),
        }
        verified.objects += 1;
        done(verified.objects, count);
    }
    Ok(())
}

/// Reads an object; gives its length, or what is wrong with it.
async fn check(store: &Store, written: &Written) -> Result<Result<u64, String>> {
    let name = store.display(&written.key);
    let (mut at, mut crc) = (0, 0);
    loop {
        let Some(part) = store.get_range(&written.key, at..at + PART_BYTES).await? else {
            return Ok(Err(format!("{name} is missing")));
        };
        if part.size != written.bytes {
            return Ok(Err(format!("{name} has {} bytes, but {} were written", part.size, written.bytes)));
        }
        crc = crc32c::crc32c_append(crc, &part.bytes);
        at += part.bytes.len() as u64;
        if at >= part.size || part.bytes.is_empty() {
            break;
        }
    }
    Ok(if crc == written.crc32c {
        Ok(at)
    } else {
        Err(format!("{name} is not what was written: its checksum differs"))
    })
}

/// Computes windows of a finished run's images anew.
pub struct Windows<'a> {
    store: &'a Store,
    manifest: &'a Manifest,
    sources: &'a Sources,
    cache: ChunkCache,
    /// Bytes that one window may take.
    memory_bytes: u64,
}

impl<'a> Windows<'a> {
    /// Of a run whose input is what it read.
    pub fn new(store: &'a Store, manifest: &'a Manifest, sources: &'a Sources, memory_bytes: u64) -> Self {
        Self {
            store,
            manifest,
            sources,
            cache: ChunkCache::new((memory_bytes / 4) as usize),
            memory_bytes: memory_bytes / 2,
        }
    }

    /// Computes `count` windows of each image anew; `random` gives numbers below its argument.
    pub async fn check(
        &self,
        count: u64,
        mut random: impl FnMut(u64) -> u64,
        done: impl Fn(u64, u64),
        verified: &mut Verified,
    ) -> Result<()> {
        let plan = &self.manifest.plan;
        let images: Vec<&Stored> = plan.images.iter().filter(|stored| !stored.groups.is_empty()).collect();
        let all = count * images.iter().filter(|stored| self.out_of_reach(stored).is_none()).count() as u64;
        for stored in images {
            let name = stored.groups.join(", ");
            if let Some(why) = self.out_of_reach(stored) {
                verified.left_out.push(format!("{name}: {why}"));
                continue;
            }
            for _ in 0..count {
                let window = seam_window(plan, &mut random);
                if let Some(fault) = self.fault(stored, window).await? {
                    verified.faults.push(format!("{name}, voxels {:?} to {:?}: {fault}", window.start, window.end));
                }
                verified.windows += 1;
                verified.voxels += window.voxels() as u64;
                done(verified.windows, all);
            }
        }
        Ok(())
    }

    /// The image that one is computed from: the last before it that is there, if no labels were merged in between.
    fn base(&self, image: usize) -> Option<usize> {
        let plan = &self.manifest.plan;
        for base in (0..=image).rev() {
            if base == 0 || plan.stored(base).is_some_and(|stored| !stored.groups.is_empty()) {
                return Some(base);
            }
            if plan.ops[base - 1].is_merged() {
                return None;
            }
        }
        None
    }

    /// The image that a stored one is compared with: what it was labelled from, or what its last step was given.
    fn before(stored: &Stored) -> usize {
        stored.image - 1
    }

    /// Why a window of an image can't be computed.
    fn out_of_reach(&self, stored: &Stored) -> Option<String> {
        let plan = &self.manifest.plan;
        let Some(base) = self.base(Self::before(stored)) else {
            return Some("what it was made of was not saved".into());
        };
        let window = Region::new([0; 3], std::array::from_fn(|a| WINDOW.min(plan.extent.shape[a])));
        let (mut region, mut bytes) = (window, 0u64);
        for image in (base..stored.image).rev() {
            let op = &plan.ops[image];
            let below = Region::new([0; 3], std::array::from_fn(|a| region.shape()[a] + 2 * op.halo(plan.extent)[a]));
            let clipped = below.intersection(&plan.extent.region()).unwrap_or(below);
            if !op.is_merged() {
                bytes = bytes.max(op.peak_bytes(plan.dtype(image), clipped, region, plan.extent) as u64);
            }
            region = clipped;
        }
        (bytes > self.memory_bytes).then(|| {
            format!("a window with all that decides it takes {} MiB; give a larger --memory", bytes.div_ceil(1 << 20))
        })
    }

    /// What is wrong with a window of an image.
    async fn fault(&self, stored: &Stored, window: Region) -> Result<Option<String>> {
        let plan = &self.manifest.plan;
        let ours = self.stored(stored, window).await?;
        match &plan.ops[stored.image - 1] {
            Op::Label(label) => Ok(labels_fault(&self.labelled(stored, window).await?, &ours, label)),
            Op::FillHoles { connectivity } => {
                // A hole that reaches beyond the mask is filled inside it only.
                let whole = self.sources.mask.is_none().then_some(*connectivity);
                Ok(holes_fault(&self.labelled(stored, window).await?, &foreground(ours), whole))
            }
            op => {
                let base = Self::before(stored);
                let given = self.image(base, window.grown(op.halo(plan.extent), plan.extent.shape)).await?;
                let anew = self.apply(base, given, window).await?;
                Ok(difference(&anew, &ours))
            }
        }
    }

    /// The foreground that a merged image was made of.
    async fn labelled(&self, stored: &Stored, window: Region) -> Result<Volume<bool>> {
        let mut of = foreground(self.image(Self::before(stored), window).await?);
        if let (Some(array), Some(mask)) = (&self.sources.mask, &self.manifest.plan.mask) {
            let mask = foreground(self.source(array, mask, window).await?);
            of.data.iter_mut().zip(&mask.data).for_each(|(voxel, inside)| *voxel &= inside);
        }
        Ok(of)
    }

    /// A region of an image of the job, from the last one before it that is there.
    async fn image(&self, image: usize, region: Region) -> Result<AnyVolume> {
        let plan = &self.manifest.plan;
        let Some(base) = self.base(image) else {
            return Err(Error::internal("a window is computed of what is not there"));
        };
        let mut regions = vec![region];
        for op in plan.ops[base..image].iter().rev() {
            let above = regions[regions.len() - 1];
            regions.push(above.grown(op.halo(plan.extent), plan.extent.shape));
        }
        let mut here = match (base, plan.stored(base)) {
            (0, _) => self.source(&self.sources.input, &plan.input, regions[image - base]).await?,
            (_, Some(stored)) => self.stored(stored, regions[image - base]).await?,
            _ => return Err(Error::internal("an image is read that was not kept")),
        };
        for (number, out) in (base..image).zip(regions.iter().rev().skip(1)) {
            here = self.apply(number, here, *out).await?;
        }
        Ok(here)
    }

    async fn apply(&self, number: usize, image: AnyVolume, out: Region) -> Result<AnyVolume> {
        let plan = &self.manifest.plan;
        let op = &plan.ops[number];
        let mask = match (&self.sources.mask, &plan.mask) {
            (Some(array), Some(mask)) if op.takes_foreground() || op.gives_foreground() => {
                let region = image.region().hull(&out);
                Some(foreground(self.source(array, mask, region).await?))
            }
            _ => None,
        };
        let state = &self.manifest.state;
        Ok(tokio::task::block_in_place(|| map::apply(plan, op, number, image, out, mask.as_ref(), state)))
    }

    /// A region of an array that the run read, in the coordinates of the job's images.
    async fn source(&self, array: &Array, input: &Input, region: Region) -> Result<AnyVolume> {
        let mut image = self.read(array, input.region_of(region)).await?;
        voxel::with_volume!(&mut image, volume => volume.region = region);
        Ok(image)
    }

    /// A region of an image that the run wrote.
    async fn stored(&self, stored: &Stored, region: Region) -> Result<AnyVolume> {
        let plan = &self.manifest.plan;
        let Some(group) = stored.groups.first() else {
            return Err(Error::internal("a window is read of what is not there"));
        };
        let spec = ArraySpec { dtype: self.manifest.state.dtype(plan, stored.image), ..stored.spec.clone() };
        let array = Array::unpublished(&self.store.child(&layout::level(group, 0))?, &spec)?;
        let voxels = self.read(&array, region).await?;
        // Masks are stored as bytes, and labels as narrow as they can be.
        let dtype = plan.dtype(stored.image);
        Ok(if voxels.dtype() == dtype { voxels } else { voxel::filter::cast(voxels, region, dtype) })
    }

    async fn read(&self, array: &Array, region: Region) -> Result<AnyVolume> {
        let fetched = array.fetch(&self.cache, region).await?;
        tokio::task::block_in_place(|| fetched.decode())
    }
}

/// A window around a random corner where blocks meet, or anywhere where there is one block only.
fn seam_window(plan: &Plan, random: &mut impl FnMut(u64) -> u64) -> Region {
    let (shape, block) = (plan.extent.shape, plan.grid.block);
    let mut start = [0; 3];
    for a in 0..3 {
        let side = WINDOW.min(shape[a]);
        let seams = shape[a].div_ceil(block[a]) as u64 - 1;
        // A few windows lie beside the seams of an axis, so that faces of the volume are seen, too.
        let middle = match seams {
            1.. if random(4) > 0 => (1 + random(seams)) as usize * block[a],
            _ => random(shape[a] as u64) as usize,
        };
        start[a] = middle.saturating_sub(side / 2).min(shape[a] - side);
    }
    Region::new(start, std::array::from_fn(|a| WINDOW.min(shape[a])))
}

fn foreground(image: AnyVolume) -> Volume<bool> {
    let region = image.region();
    match voxel::filter::cast(image, region, Dtype::Bool) {
        AnyVolume::Bool(volume) => volume,
        _ => Volume::new(region, vec![false; region.voxels()]),
    }
}

/// The first voxel at which two images differ in a bit.
fn difference(anew: &AnyVolume, ours: &AnyVolume) -> Option<String> {
    if anew.dtype() != ours.dtype() {
        return Some(format!("it is {}, but {} was expected", ours.dtype(), anew.dtype()));
    }
    let (region, theirs) = (ours.region(), values(anew));
    let at = values(ours).iter().zip(&theirs).position(|(a, b)| a != b)?;
    Some(format!("voxel {:?} is {}, but {} when computed anew", place(region, at), text(ours, at), text(anew, at)))
}

/// The bits of each voxel.
fn values(image: &AnyVolume) -> Vec<u64> {
    match image {
        AnyVolume::Bool(v) => v.data.iter().map(|v| u64::from(*v)).collect(),
        AnyVolume::U8(v) => v.data.iter().map(|v| u64::from(*v)).collect(),
        AnyVolume::I8(v) => v.data.iter().map(|v| u64::from(v.cast_unsigned())).collect(),
        AnyVolume::U16(v) => v.data.iter().map(|v| u64::from(*v)).collect(),
        AnyVolume::I16(v) => v.data.iter().map(|v| u64::from(v.cast_unsigned())).collect(),
        AnyVolume::U32(v) => v.data.iter().map(|v| u64::from(*v)).collect(),
        AnyVolume::I32(v) => v.data.iter().map(|v| u64::from(v.cast_unsigned())).collect(),
        AnyVolume::U64(v) => v.data.clone(),
        AnyVolume::I64(v) => v.data.iter().map(|v| v.cast_unsigned()).collect(),
        AnyVolume::F32(v) => v.data.iter().map(|v| u64::from(v.to_bits())).collect(),
        AnyVolume::F64(v) => v.data.iter().map(|v| v.to_bits()).collect(),
    }
}

fn text(image: &AnyVolume, at: usize) -> String {
    voxel::with_volume!(image, volume => format!("{:?}", volume.data[at]))
}

/// Coordinates of the voxel at an index of a region's C order.
fn place(region: Region, at: usize) -> [usize; 3] {
    let [_, y, x] = region.shape();
    [region.start[0] + at / (y * x), region.start[1] + at / x % y, region.start[2] + at % x]
}

/// What is wrong with the labels of a foreground.
fn labels_fault(mask: &Volume<bool>, labels: &AnyVolume, step: &Label) -> Option<String> {
    let labels = values(labels);
    let dropping = step.min_voxels > 1 || step.max_voxels < u64::MAX || step.clear_border;
    for (at, (inside, label)) in mask.data.iter().zip(&labels).enumerate() {
        let voxel = place(mask.region, at);
        match (inside, label) {
            (false, 1..) => return Some(format!("voxel {voxel:?} is background, but has the label {label}")),
            (true, 0) if !dropping => return Some(format!("voxel {voxel:?} is foreground, but has no label")),
            _ => {}
        }
    }
    parted(mask, &labels, true, step.connectivity, "foreground")
}

/// What is wrong with the holes that were filled.
fn holes_fault(mask: &Volume<bool>, filled: &Volume<bool>, whole: Option<Connectivity>) -> Option<String> {
    let lost = mask.data.iter().zip(&filled.data).position(|(before, after)| *before && !after);
    if let Some(at) = lost {
        return Some(format!("voxel {:?} was foreground and is not any more", place(mask.region, at)));
    }
    let filled: Vec<u64> = filled.data.iter().map(|v| u64::from(*v)).collect();
    parted(mask, &filled, false, whole?, "background")
}

/// The neighbours of a voxel that come before it along the axis, z, y or x, in which they first differ.
fn before(here: [usize; 3], shape: [usize; 3], connectivity: Connectivity) -> impl Iterator<Item = [usize; 3]> {
    const STEPS: [isize; 3] = [-1, 0, 1];
    let offsets = STEPS.into_iter().flat_map(|z| STEPS.into_iter().flat_map(move |y| STEPS.map(|x| [z, y, x])));
    let near = move |offset: &[isize; 3]| {
        offset.iter().filter(|step| **step != 0).count() <= connectivity.axes_max() && *offset < [0; 3]
    };
    offsets.filter(near).filter_map(move |offset| {
        let mut there = [0; 3];
        for a in 0..3 {
            there[a] = here[a].checked_add_signed(offset[a]).filter(|i| *i < shape[a])?;
        }
        Some(there)
    })
}

/// Two neighbours, both `of` this kind in the mask, that have different values.
fn parted(mask: &Volume<bool>, values: &[u64], of: bool, connectivity: Connectivity, what: &str) -> Option<String> {
    let shape = mask.region.shape();
    let index = |at: [usize; 3]| (at[0] * shape[1] + at[1]) * shape[2] + at[2];
    for (at, value) in values.iter().enumerate().filter(|(at, _)| mask.data[*at] == of) {
        let here = [at / (shape[1] * shape[2]), at / shape[2] % shape[1], at % shape[2]];
        for there in before(here, shape, connectivity).map(index).filter(|there| mask.data[*there] == of) {
            if values[there] != *value {
                return Some(format!(
                    "voxels {:?} and {:?} are neighbours in the {what}, but have the values {value} and {}",
                    place(mask.region, at),
                    place(mask.region, there),
                    values[there]
                ));
            }
        }
    }
    None
}
