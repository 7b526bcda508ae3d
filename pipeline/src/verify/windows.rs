//! Windows of a run's images, computed anew from the last image before them that is there, in one piece.

use voxel::{AnyVolume, Region, Volume};

use super::Verified;
use super::compare::{difference, foreground, holes_fault, labels_fault};
use crate::array::{Array, ArraySpec, ChunkCache};
use crate::map;
use crate::op::Op;
use crate::plan::{Input, Plan, Stored};
use crate::publish::Manifest;
use crate::sources::Sources;
use crate::store::Store;
use crate::{Error, Result, layout};

/// Voxels along each side of a window.
const WINDOW: usize = 32;

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
