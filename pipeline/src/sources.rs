//! The arrays a plan reads and does not write: its input, its mask, another array of intensities. Here is which objects
//! of theirs a block looks at, and which versions those have.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::Result;
use crate::array::{Array, METADATA_KEYS};
use crate::map::{self, Beside};
use crate::plan::{Input, Intensity, Pass, Plan};
use crate::store::{Requests, Stores, Version};

/// Versions of objects, by key. Arrays have keys in common, so those of a mask or of intensities begin with that word.
pub type Versions = BTreeMap<String, Version>;

/// What an array is to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Input,
    Mask,
    Intensity,
}

impl Role {
    /// The key of one of the array's objects, as receipts have it.
    pub(crate) fn key(self, key: &str) -> String {
        match self {
            Role::Input => key.to_owned(),
            Role::Mask => format!("mask {key}"),
            Role::Intensity => format!("intensity {key}"),
        }
    }
}

/// The arrays a plan reads.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The input.
    pub input: Array,
    /// The mask.
    pub mask: Option<Array>,
    /// What object statistics read, where it is another array than the job's own.
    pub intensity: Option<Array>,
}

impl Sources {
    /// Opens what a plan reads.
    pub async fn open(stores: &Stores, plan: &Plan) -> Result<Self> {
        let mask = match &plan.mask {
            Some(mask) => Some(Array::open(stores, &mask.url, &mask.pick).await?),
            None => None,
        };
        let intensity = match &plan.intensity {
            Intensity::Other(other) => Some(Array::open(stores, &other.url, &other.pick).await?),
            Intensity::Image(_) => None,
        };
        Ok(Self { input: Array::open(stores, &plan.input.url, &plan.input.pick).await?, mask, intensity })
    }

    fn all(&self) -> impl Iterator<Item = (Role, &Array)> {
        let mask = self.mask.iter().map(|array| (Role::Mask, array));
        let intensity = self.intensity.iter().map(|array| (Role::Intensity, array));
        std::iter::once((Role::Input, &self.input)).chain(mask).chain(intensity)
    }

    /// Whether all of them are files.
    pub(crate) fn all_on_disk(&self) -> bool {
        self.all().all(|(_, array)| array.store().all_on_disk())
    }

    /// What has been asked of the stores they are in.
    pub fn requests(&self) -> Requests {
        self.all().map(|(_, array)| array.store().requests()).fold(Requests::default(), Requests::plus)
    }

    /// Every object of theirs with the version it has now; `None` where a store can't list, as on a web server.
    pub async fn versions(&self) -> Result<Option<Versions>> {
        let mut versions = Versions::new();
        for (role, array) in self.all() {
            if !array.store().can_list() {
                return Ok(None);
            }
            let is_metadata = |key: &str| METADATA_KEYS.contains(&key.rsplit('/').next().unwrap_or(key));
            let found = array.store().versions("").await?;
            versions.extend(found.into_iter().filter(|(key, _)| !is_metadata(key)).map(|(key, v)| (role.key(&key), v)));
        }
        Ok(Some(versions))
    }

    /// The objects that block `unit` of a pass looks at, where they lie in these arrays; whether they are there or not.
    pub(crate) fn keys_of_block(&self, plan: &Plan, pass: &Pass, unit: u64) -> Vec<String> {
        let block = plan.grid.region(unit);
        let regions = plan.regions(pass, block);
        let mut keys = Vec::new();
        let mut add = |role: Role, array: &Array, input: &Input, region| {
            keys.extend(array.keys_in(input.region_of(region)).map(|key| role.key(&key)));
        };
        if pass.from == 0 {
            add(Role::Input, &self.input, &plan.input, regions[0]);
        }
        match (map::beside(plan, pass), &self.intensity, &plan.intensity) {
            (Some(Beside::Other), Some(array), Intensity::Other(other)) => add(Role::Intensity, array, other, block),
            (Some(Beside::Image(0)), ..) => add(Role::Input, &self.input, &plan.input, block),
            _ => {}
        }
        if let (Some(array), Some(mask), Some(region)) =
            (&self.mask, &plan.mask, plan.mask_region(pass, &regions, block))
        {
            add(Role::Mask, array, mask, region);
        }
        keys
    }

    /// The objects that hold the image and what is read beside it.
    pub(crate) fn keys(&self, plan: &Plan) -> Vec<String> {
        let all = plan.extent.region();
        // Intensities are read where a table wants them.
        let wanted = plan.tables.iter().any(|table| table.intensity.is_some());
        let other = match &plan.intensity {
            Intensity::Other(other) => Some(other).filter(|_| wanted),
            Intensity::Image(_) => None,
        };
        let inputs = [(Role::Input, Some(&self.input), Some(&plan.input))]
            .into_iter()
            .chain([(Role::Mask, self.mask.as_ref(), plan.mask.as_ref())])
            .chain([(Role::Intensity, self.intensity.as_ref(), other)]);
        let keys = |(role, array, input): (Role, Option<&Array>, Option<&Input>)| {
            let (array, input) = (array?, input?);
            Some(array.keys_in(input.region_of(all)).map(|key| role.key(&key)).collect::<Vec<_>>())
        };
        inputs.filter_map(keys).flatten().collect()
    }

    /// How messages name an object that a receipt speaks of.
    pub(crate) fn display(&self, key: &str) -> String {
        let (array, key) = match key.split_once(' ') {
            Some(("mask", key)) => (self.mask.as_ref(), key),
            Some(("intensity", key)) => (self.intensity.as_ref(), key),
            _ => (None, key),
        };
        array.unwrap_or(&self.input).store().display(key)
    }
}

/// A short name for the state of all objects.
pub fn name_of(versions: &Versions) -> String {
    let mut hash = Sha256::new();
    for (key, version) in versions {
        hash.update(key.as_bytes());
        hash.update([0]);
        match version {
            Version::ETag { e_tag } => hash.update(e_tag.as_bytes()),
            Version::File { size, mtime_us } => {
                hash.update(size.to_le_bytes());
                hash.update(mtime_us.to_le_bytes());
            }
        }
        hash.update([0]);
    }
    hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect()
}
