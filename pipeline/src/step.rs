//! The steps of a job: what each one takes, its parameters with their defaults, and what is refused before anything
//! runs.
//!
//! A step is data: parsed once, checked once ([`Step::validate`] for the numbers, [`output_dtypes`] for the types),
//! then trusted. What computes it is the crate `voxel`, and turning these parameters into taps, radii and windows is
//! the planner's. How a step is written, as TOML, as JSON or on one line, is [`crate::job`]'s.
//!
//! The documentation of the variants and fields below is also what the JSON Schema and [`help_steps`] say to users.

mod catalog;
mod check;
mod morphology;
mod neighbours;
mod number;
mod per_axis;
mod threshold;

use crate::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use voxel::Dtype;

pub use catalog::help_steps;
pub(crate) use catalog::{Parameter, keys, op_names, parameters};
pub use morphology::{Morphology, Outside, Shape};
pub use neighbours::{Connectivity, Contacts};
pub use number::Number;
pub(crate) use number::json_number;
pub use per_axis::PerAxis;
pub use threshold::{Rule, Threshold};

/// One operation of a job. Each reads the image the step before it left and gives an image of the same shape.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Step {
    /// Rescales values: v * multiply / divide + add, then 1 - v where invert is set. Twin: numpy arithmetic in
    /// float64, rounded once to float32 (float64 stays).
    Rescale(Rescale),
    /// Changes the voxel type: to integers half to even, saturating, NaN to 0; to bool v != 0, NaN to false.
    /// Twin: numpy.rint, numpy.clip and astype.
    Cast(Cast),
    /// Limits values to a range, same type; NaN stays. Twin: numpy.clip.
    Clip(Clip),
    /// Smooths with a Gaussian, giving float32 (float64 for float64). Twin: scipy.ndimage.gaussian_filter.
    Gaussian(Gaussian),
    /// Takes the median of a box around each voxel, same type; NaN sorts last. Twin: scipy.ndimage.median_filter.
    Median(Window),
    /// Takes the mean of a box around each voxel, giving float32 (float64 for float64). Twin:
    /// scipy.ndimage.uniform_filter.
    Mean(Window),
    /// Takes the least value of a box around each voxel, same type; NaN sorts last. Twin:
    /// scipy.ndimage.minimum_filter.
    Minimum(Window),
    /// Takes the greatest value of a box around each voxel, same type; NaN sorts last. Twin:
    /// scipy.ndimage.maximum_filter.
    Maximum(Window),
    /// Makes a mask, giving bool; NaN is never inside before invert. Twin: numpy comparisons,
    /// skimage.filters.threshold_otsu and numpy.percentile.
    Threshold(Threshold),
    /// Shrinks the foreground by a ball, box or cross. Twin: skimage.morphology.erosion with mode = ignore, or with
    /// outside = zero scipy.ndimage.binary_erosion.
    Erode(Morphology),
    /// Grows the foreground by a ball, box or cross. Twin: skimage.morphology.dilation with mode = ignore, or
    /// scipy.ndimage.binary_dilation.
    Dilate(Morphology),
    /// Erodes, then dilates: removes what the ball, box or cross does not fit into. Twin: skimage.morphology.opening
    /// with mode = ignore, or with outside = zero scipy.ndimage.binary_opening.
    Open(Morphology),
    /// Dilates, then erodes: closes gaps the ball, box or cross does not fit into. Twin: skimage.morphology.closing
    /// with mode = ignore, or with outside = zero scipy.ndimage.binary_closing.
    Close(Morphology),
    /// Fills holes: background that does not reach the border of the volume; gives bool. Twin:
    /// scipy.ndimage.binary_fill_holes.
    #[serde(rename = "fill_holes")]
    FillHoles(FillHoles),
    /// Numbers the connected components of the foreground 1..N by first voxel in C order, and measures them; gives
    /// uint32, uint64 when needed. Twin: scipy.ndimage.label.
    Label(Label),
    /// Measures the objects of a label image, whose ids are kept; 0 is background. Twin:
    /// skimage.measure.regionprops_table.
    Objects(Objects),
}

/// Parameters of `rescale`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rescale {
    /// Factor applied first.
    pub multiply: f64,
    /// Divisor applied next; not 0.
    pub divide: f64,
    /// Number added next.
    pub add: f64,
    /// Gives 1 - v after the rest.
    pub invert: bool,
}

impl Default for Rescale {
    fn default() -> Self {
        Self { multiply: 1.0, divide: 1.0, add: 0.0, invert: false }
    }
}

/// Parameters of `cast`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cast {
    /// The new voxel type by its numpy name: bool, uint8 to uint64, int8 to int64, float32 or float64.
    #[serde(deserialize_with = "dtype_from_name")]
    #[schemars(schema_with = "dtype_schema")]
    pub dtype: Dtype,
}

/// Parameters of `clip`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Clip {
    /// What is less becomes this; at least one of low and high is given. For integers rounded up, to the type's last
    /// value where it lies beyond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<Number>,
    /// What is greater becomes this. For integers rounded down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<Number>,
}

impl Clip {
    /// The bounds as the kernel takes them.
    pub(crate) fn kernel(&self) -> voxel::filter::Clip {
        let bound = |bound: Option<Number>, none: f64| bound.map_or(none, |v| v.0);
        voxel::filter::Clip { low: bound(self.low, f64::NEG_INFINITY), high: bound(self.high, f64::INFINITY) }
    }
}

/// Parameters of `gaussian`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gaussian {
    /// Standard deviation in voxels: one number, or z,y,x (y,x for 2-D images); 0 leaves an axis alone.
    pub sigma: PerAxis<f64>,
    /// The kernel is cut at this many standard deviations: its radius is int(truncate * sigma + 0.5).
    #[serde(default = "four")]
    pub truncate: f64,
    /// What lies beyond the faces of the volume: reflect, nearest, mirror or constant.
    #[serde(default)]
    pub mode: Mode,
    /// The value beyond the faces; read only with mode = constant, where the default is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Number>,
}

fn four() -> f64 {
    4.0
}

/// Parameters of `median`, `mean`, `minimum` and `maximum`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Width of the box in voxels, odd: one number, or z,y,x (y,x for 2-D images).
    pub size: PerAxis<usize>,
    /// What lies beyond the faces of the volume: reflect, nearest, mirror or constant.
    #[serde(default)]
    pub mode: Mode,
    /// The value beyond the faces; read only with mode = constant, where the default is 0. Where the step keeps the
    /// type, that has to hold it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Number>,
}

/// What a filter sees beyond the faces of the volume; the names and meanings are scipy.ndimage's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Mode {
    /// `d c b a | a b c d | d c b a`: half-sample symmetric.
    #[default]
    Reflect,
    /// `a a a a | a b c d | d d d d`: the edge value.
    Nearest,
    /// `d c b | a b c d | c b a`: whole-sample symmetric.
    Mirror,
    /// One value everywhere.
    Constant,
}

/// A step as it stands in a job: what is done, and under which name the result is kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobStep {
    /// What is done.
    #[serde(flatten)]
    pub step: Step,
    /// The image after this step is kept as NAME.zarr, and what it measures as NAME.parquet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub save: Option<String>,
}

impl From<Step> for JobStep {
    fn from(step: Step) -> Self {
        Self { step, save: None }
    }
}

/// Parameters of `fill_holes`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FillHoles {
    /// Which neighbours of the background belong together: 6, 18 or 26 (4 or 8 in 2-D images). With more of them fewer
    /// holes are closed in.
    pub connectivity: Connectivity,
}

/// Parameters of `label`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Label {
    /// Which neighbours belong together: 6, 18 or 26; in 2-D images 6 means 4, 18 and 26 mean 8, and 4 and 8 may be
    /// written too.
    pub connectivity: Connectivity,
    /// Smaller objects are dropped before numbering.
    pub min_voxels: u64,
    /// Larger objects are dropped before numbering.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_voxels: Option<u64>,
    /// Drops objects that touch the border of the volume.
    pub clear_border: bool,
    /// Writes which objects touch: none, or over which neighbours, 6, 18 or 26 (4 or 8 in 2-D images).
    pub contacts: Contacts,
}

impl Default for Label {
    fn default() -> Self {
        Self {
            connectivity: Connectivity::Six,
            min_voxels: 1,
            max_voxels: None,
            clear_border: false,
            contacts: Contacts(None),
        }
    }
}

/// Parameters of `objects`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Objects {
    /// Writes which objects touch: none, or over which neighbours, 6, 18 or 26 (4 or 8 in 2-D images).
    pub contacts: Contacts,
}

impl Step {
    /// The op's name as users write it.
    pub fn op(&self) -> &'static str {
        match self {
            Self::Rescale(_) => "rescale",
            Self::Clip(_) => "clip",
            Self::Cast(_) => "cast",
            Self::Gaussian(_) => "gaussian",
            Self::Median(_) => "median",
            Self::Mean(_) => "mean",
            Self::Minimum(_) => "minimum",
            Self::Maximum(_) => "maximum",
            Self::Threshold(_) => "threshold",
            Self::Erode(_) => "erode",
            Self::Dilate(_) => "dilate",
            Self::Open(_) => "open",
            Self::Close(_) => "close",
            Self::FillHoles(_) => "fill_holes",
            Self::Label(_) => "label",
            Self::Objects(_) => "objects",
        }
    }

    /// What a step that keeps the type says of a number that the type can't hold.
    fn numbers_beyond(&self, input: Dtype) -> Option<Error> {
        match self {
            Self::Median(w) | Self::Minimum(w) | Self::Maximum(w) if w.mode == Mode::Constant => {
                let value = w.value.map_or(0.0, |v| v.0);
                (!check::holds(input, value)).then(|| {
                    Error::invalid(format!("`value` is {value}, which {input} can't hold"))
                        .hint(format!("choose a value that {input} holds, or put a cast before it"))
                })
            }
            Self::Clip(clip) if !clip.kernel().leaves_any(input) => {
                let voxel::filter::Clip { low, high } = clip.kernel();
                Some(Error::invalid(format!("no {input} lies between `low` {low} and `high` {high}")))
            }
            _ => None,
        }
    }

    /// The voxel type this step gives for `input`, or an [`Error::invalid`] that says which step gives what. `index`
    /// counts from 0 (messages count from 1), and `previous` is the step that gives `input`, `None` for the input
    /// image itself. `label` gives uint32 here; whether it must be uint64 is known only once objects are counted.
    pub fn output_dtype(&self, input: Dtype, index: usize, previous: Option<&Step>) -> Result<Dtype> {
        if let Some(fault) = self.numbers_beyond(input) {
            return Err(fault.at(format!("step {} ({})", index + 1, self.op())));
        }
        let takes = match self {
            Self::Rescale(_) | Self::Gaussian(_) | Self::Mean(_) => return Ok(input.averaged()),
            Self::Cast(cast) => return Ok(cast.dtype),
            Self::Clip(_) | Self::Median(_) | Self::Minimum(_) | Self::Maximum(_) => return Ok(input),
            Self::Threshold(_) => return Ok(Dtype::Bool),
            Self::Erode(_) | Self::Dilate(_) | Self::Open(_) | Self::Close(_) if !input.is_float() => {
                return Ok(Dtype::Bool);
            }
            Self::FillHoles(_) if !input.is_float() => return Ok(Dtype::Bool),
            Self::Label(_) if !input.is_float() => return Ok(Dtype::U32),
            Self::Objects(_) if input.is_integer() => return Ok(input),
            Self::Erode(_) | Self::Dilate(_) | Self::Open(_) | Self::Close(_) => "bool or integers",
            Self::FillHoles(_) | Self::Label(_) => "bool or integers",
            Self::Objects(_) => "integer labels",
        };
        let source = match previous {
            Some(step) => format!("step {index} ({})", step.op()),
            None => "the input".to_owned(),
        };
        let message = format!("step {} ({}) takes {takes}, but gets {input} from {source}", index + 1, self.op());
        Err(Error::invalid(message).hint(match self {
            Self::Objects(_) if input == Dtype::Bool => "put a label in its place, which also measures",
            Self::Objects(_) => "put a cast before it if these are whole-number labels",
            _ => "put a threshold before it",
        }))
    }
}

/// The voxel type after each step, for an input image of type `input`. The error is [`Step::output_dtype`]'s.
pub fn output_dtypes(steps: &[&Step], input: Dtype) -> Result<Vec<Dtype>> {
    let mut dtypes = Vec::with_capacity(steps.len());
    let mut current = input;
    for (index, step) in steps.iter().enumerate() {
        current = step.output_dtype(current, index, index.checked_sub(1).map(|before| steps[before]))?;
        dtypes.push(current);
    }
    Ok(dtypes)
}

fn dtype_from_name<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Dtype, D::Error> {
    let name = std::borrow::Cow::<str>::deserialize(from)?;
    Dtype::from_name(&name).ok_or_else(|| {
        let names = Dtype::ALL.map(Dtype::name).join(", ");
        serde::de::Error::custom(format!("takes one of {names}"))
    })
}

fn dtype_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "enum": Dtype::ALL.map(Dtype::name) })
}

#[cfg(test)]
mod tests;
