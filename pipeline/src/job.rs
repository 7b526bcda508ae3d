//! The job: what the user wrote, parsed once into types.
//!
//! A job is a TOML or JSON document ([`Job::from_toml`], [`Job::from_json`]); its steps may also come from one line of
//! text ([`steps_from_line`]). Whatever is wrong with either is an [`Error::invalid`] that says where, by line, key or
//! caret, and suggests the name that was probably meant. What the job means for a given input, its blocks, memory and
//! price, is the planner's.

mod crop;
mod line;
mod nearest;
mod read;

use crate::array::OmeVersion;
use crate::fault::Fault;
use crate::pyramid::Levels;
use crate::step::{Connectivity, Contacts, JobStep, Mode, Number, PerAxis, Rule, Shape, Step};
use crate::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use voxel::Extent;

pub use crop::{Crop, Slice};
pub use line::steps_from_line;

/// An image-analysis job: read `input`, run `steps` over it, leave the answers under `output`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// URL or path of the Zarr array or OME-Zarr image to read.
    pub input: String,
    /// URL or path of the folder the answers go to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// What is done to the image, in order; without any, the image is only measured.
    #[serde(default)]
    pub steps: Vec<JobStep>,
    /// Which level of a multiscale image to read, 0 being the finest.
    #[serde(default)]
    pub level: usize,
    /// Which channel to read, from 0; needed when the image has more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<usize>,
    /// Which time point to read, from 0; needed when the image has more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<usize>,
    /// Which image of a series to read, from 0; needed when there is more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<usize>,
    /// Crops the input first, as numpy slices, one for each axis: "0:100,:,:". The answers are those of the crop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Crop>,
    /// The image whose values object statistics read: the URL of an array of the input's shape, or the name of a saved
    /// image; by default the input, and none when the input itself holds the labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intensity: Option<String>,
    /// URL of a mask, bool or integers, of the input's shape: where it is 0 is background, left out of all statistics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<String>,
    /// What histogram.json describes: input, or the name of a saved image.
    #[serde(default)]
    pub histogram: Measured,
    /// exact: reads the measured image again where that is needed to know the percentiles to the last bit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percentiles: Option<Percentiles>,
    /// How image outputs are stored.
    #[serde(default)]
    pub write: Write,
}

/// What `histogram.json` describes. Written `input`, or as a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Measured {
    /// The input.
    #[default]
    Input,
    /// What a step saves under this name.
    Saved(String),
}

impl From<String> for Measured {
    fn from(name: String) -> Self {
        if name == "input" { Self::Input } else { Self::Saved(name) }
    }
}

impl From<Measured> for String {
    fn from(measured: Measured) -> Self {
        match measured {
            Measured::Input => "input".to_owned(),
            Measured::Saved(name) => name,
        }
    }
}

/// How precise the percentiles of the histogram are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Percentiles {
    /// To the last bit, at the price of further passes over wide types.
    Exact,
}

impl std::str::FromStr for Percentiles {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "exact" => Ok(Self::Exact),
            other => Err(Error::invalid(format!("percentiles takes exact, but got {other}"))
                .hint("leave it out for what one pass can tell, with a bound")),
        }
    }
}

/// How image outputs are stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Write {
    /// Voxels along each side of a chunk, clipped to the axis: one number, or z,y,x (y,x for 2-D images).
    pub chunks: PerAxis<usize>,
    /// Chunks along each side of a shard: one number, z,y,x (y,x for 2-D images), or none.
    pub shards: Shards,
    /// The codec of the chunks, such as zstd:3, gzip:6, blosc:lz4 or none; by default chosen by the kind of output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codec: Option<String>,
    /// How many levels each image gets: "auto", halved until the longest axis has at most 256 voxels; "none", the image
    /// itself only; or the number of levels, the image itself being the first.
    pub levels: Levels,
    /// The version of OME-Zarr: "0.5", or "0.4", which is Zarr v2 and has no shards.
    pub ome: OmeVersion,
}

/// What `shards` is when nobody says.
const SHARDS: Shards = Shards::Chunks(PerAxis::All(2));

impl Default for Write {
    fn default() -> Self {
        let (levels, ome) = (Levels::default(), OmeVersion::default());
        Self { chunks: PerAxis::All(128), shards: SHARDS, codec: None, levels, ome }
    }
}

/// Whether chunks are gathered into shards, and how many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "ShardsKey", into = "ShardsKey")]
pub enum Shards {
    /// Each chunk is an object of its own.
    None,
    /// This many chunks along each side of a shard.
    Chunks(PerAxis<usize>),
}

/// `shards` as it is written.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "takes a number or a list of numbers, one for each axis, or \"none\"")]
#[schemars(inline)]
enum ShardsKey {
    None(NoShards),
    Chunks(PerAxis<usize>),
}

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum NoShards {
    None,
}

impl From<ShardsKey> for Shards {
    fn from(key: ShardsKey) -> Self {
        match key {
            ShardsKey::None(NoShards::None) => Self::None,
            ShardsKey::Chunks(counts) => Self::Chunks(counts),
        }
    }
}

impl From<Shards> for ShardsKey {
    fn from(shards: Shards) -> Self {
        match shards {
            Shards::None => Self::None(NoShards::None),
            Shards::Chunks(counts) => Self::Chunks(counts),
        }
    }
}

/// As flags write it: `none`, `2` or `1,4,4`.
impl std::str::FromStr for Shards {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.trim() == "none" { Ok(Self::None) } else { Ok(Self::Chunks(text.parse()?)) }
    }
}

impl Write {
    /// Refuses chunks and shards that no image could use.
    pub fn validate(&self) -> Result<()> {
        Ok(self.check()?)
    }

    /// The shards that are written: none in OME-Zarr 0.4, whatever the default.
    fn used_shards(&self) -> &Shards {
        if self.ome == OmeVersion::V04 { &Shards::None } else { &self.shards }
    }

    /// The chunk and the shard, in voxels along z, y, x, of an image: chunks clipped to its axes, shards to its chunks.
    /// [`Error::invalid`] when a list has more or fewer numbers than the image has axes.
    pub fn shapes(&self, extent: &Extent) -> Result<([usize; 3], Option<[usize; 3]>)> {
        let sides = self.chunks.resolve(extent.planar, 1).map_err(|error| error.at("`chunks`"))?;
        let chunk: [usize; 3] = std::array::from_fn(|axis| sides[axis].min(extent.shape[axis]).max(1));
        let Shards::Chunks(counts) = self.used_shards() else { return Ok((chunk, None)) };
        let counts = counts.resolve(extent.planar, 1).map_err(|error| error.at("`shards`"))?;
        let count = |axis: usize| counts[axis].min(extent.shape[axis].div_ceil(chunk[axis])).max(1);
        Ok((chunk, Some(std::array::from_fn(|axis| chunk[axis] * count(axis)))))
    }

    fn check(&self) -> Result<(), Fault> {
        const SIDE_MAX: usize = 65_536;
        let side = |key: &str, counts: &PerAxis<usize>| {
            if let PerAxis::Each(list) = counts
                && !matches!(list.len(), 2 | 3)
            {
                let message = format!(
                    "`{key}` is a list of {}, but must be one number, z,y,x, or y,x for 2-D images",
                    list.len()
                );
                return Err(Fault::new(format!("/write/{key}"), message));
            }
            match counts.values().iter().find(|n| **n == 0 || **n > SIDE_MAX) {
                Some(n) => {
                    let message = format!("`{key}` is {n}, but must be from 1 to {SIDE_MAX}");
                    Err(Fault::new(format!("/write/{key}"), message))
                }
                None => Ok(()),
            }
        };
        side("chunks", &self.chunks)?;
        if self.ome == OmeVersion::V04 && self.shards != SHARDS && self.shards != Shards::None {
            return Err(Fault::new("/write/shards", "`shards` are not part of OME-Zarr 0.4, which is Zarr v2")
                .hint("write shards = \"none\", or ome = \"0.5\""));
        }
        match &self.shards {
            Shards::None => Ok(()),
            Shards::Chunks(counts) => side("shards", counts),
        }
    }
}

impl Job {
    /// A job that measures `input`, with every key at its default.
    pub fn new(input: impl Into<String>) -> Self {
        Self {
            input: input.into(),
            output: None,
            steps: Vec::new(),
            level: 0,
            channel: None,
            time: None,
            series: None,
            region: None,
            intensity: None,
            mask: None,
            histogram: Measured::Input,
            percentiles: None,
            write: Write::default(),
        }
    }

    /// Reads and checks a job written in TOML. Errors name the line and the key.
    pub fn from_toml(text: &str) -> Result<Self> {
        read::toml(text)
    }

    /// Reads and checks a job written in JSON, with the same keys as the TOML form. Errors name the key.
    pub fn from_json(text: &str) -> Result<Self> {
        read::json(text)
    }

    /// Reads and checks the text of the job file `path`: JSON where the name ends in `.json`, else TOML. Errors begin
    /// with the path.
    pub fn from_path_text(path: &str, text: &str) -> Result<Self> {
        let json = path.len() >= 5 && path.get(path.len() - 5..).is_some_and(|end| end.eq_ignore_ascii_case(".json"));
        if json { Self::from_json(text) } else { Self::from_toml(text) }.map_err(|error| error.at(path))
    }

    /// Checks everything that can be checked without the input, as the readers do. For jobs that were put together
    /// from flags.
    pub fn validate(&self) -> Result<()> {
        Ok(self.check()?)
    }

    fn check(&self) -> Result<(), Fault> {
        if self.input.trim().is_empty() {
            return Err(Fault::new("/input", "`input` is empty, but must be the URL or path of a Zarr array"));
        }
        if self.output.as_ref().is_some_and(|output| output.trim().is_empty()) {
            return Err(Fault::new("/output", "`output` is empty, but must be the URL or path of a folder"));
        }
        for (index, step) in self.steps.iter().enumerate() {
            read::check_step(step, index).map_err(|fault| fault.under("/steps"))?;
            let Some(name) = &step.save else { continue };
            // Some disks take no notice of case.
            let same = |other: &JobStep| other.save.as_ref().is_some_and(|other| other.eq_ignore_ascii_case(name));
            if let Some(earlier) = self.steps[..index].iter().position(same) {
                let message = format!("steps {} and {} both save as {name}", earlier + 1, index + 1);
                return Err(Fault::new(format!("/steps/{index}/save"), message).hint("give each its own name"));
            }
        }
        self.write.check()
    }

    /// The job as JSON in which every default is filled in and everything that can be written in several ways is
    /// written in one, so that two jobs that mean the same have the same text. What a run's identity is hashed from.
    pub fn canonical_json(&self) -> String {
        let mut job = self.clone();
        for entry in &mut job.steps {
            entry.step = canonical_step(entry.step.clone());
        }
        job.region = job.region.filter(|crop| !crop.is_whole());
        job.write.chunks = job.write.chunks.canonical();
        job.write.shards = match job.write.used_shards() {
            Shards::Chunks(counts) => Shards::Chunks(counts.clone().canonical()),
            Shards::None => Shards::None,
        };
        serde_json::to_string(&job).expect("a job has text keys and plain values only, which JSON can always hold")
    }
}

fn canonical_step(mut step: Step) -> Step {
    // Adding 0.0 turns -0.0, which compares and adds alike, into 0.0.
    let beyond = |mode, value: Option<Number>| match mode {
        Mode::Constant => value.or(Some(Number(0.0))),
        _ => None,
    };
    // 4 and 8 are for planar images only, where they mean what 6 and 26 mean.
    let neighbours = |connectivity: Connectivity| match connectivity {
        Connectivity::Four => Connectivity::Six,
        Connectivity::Eight => Connectivity::TwentySix,
        other => other,
    };
    match &mut step {
        Step::Rescale(rescale) => rescale.add += 0.0,
        Step::Gaussian(gaussian) => {
            gaussian.sigma = gaussian.sigma.clone().canonical();
            gaussian.value = beyond(gaussian.mode, gaussian.value);
        }
        Step::Clip(clip) => {
            let bound = |bound: Option<Number>| bound.map(|v| Number(v.0 + 0.0));
            (clip.low, clip.high) = (bound(clip.low), bound(clip.high));
        }
        Step::Median(window) | Step::Mean(window) | Step::Minimum(window) | Step::Maximum(window) => {
            window.size = window.size.clone().canonical();
            window.value = beyond(window.mode, window.value);
        }
        Step::Threshold(threshold) => match &mut threshold.rule {
            Rule::Above(v) | Rule::Below(v) | Rule::Percentile(v) => *v += 0.0,
            Rule::Between(a, b) => (*a, *b) = (*a + 0.0, *b + 0.0),
            Rule::Otsu => {}
        },
        Step::Label(label) => {
            label.connectivity = neighbours(label.connectivity);
            label.contacts = Contacts(label.contacts.0.map(neighbours));
            label.min_voxels = label.min_voxels.max(1);
        }
        Step::FillHoles(fill) => fill.connectivity = neighbours(fill.connectivity),
        Step::Objects(objects) => objects.contacts = Contacts(objects.contacts.0.map(neighbours)),
        Step::Cast(_) => {}
        Step::Erode(step) | Step::Dilate(step) | Step::Open(step) | Step::Close(step) => match &mut step.shape {
            Shape::Ball(radii) => *radii = radii.clone().canonical(),
            Shape::Box(radii) => *radii = radii.clone().canonical(),
            Shape::Cross(_) => {}
        },
    }
    step
}

/// The JSON Schema (draft 2020-12) of a job.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Job).to_value()
}

#[cfg(test)]
mod tests;
