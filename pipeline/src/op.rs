//! Ops: the steps of a job as the kernels of `voxel` take them, and the arithmetic of running several in one pass.
//!
//! A [`Step`] is what the user wrote; an [`Op`] is what the plan carries, with taps computed and radii resolved, so that
//! every worker runs the very same numbers. `label` and `fill_holes` need the whole image: a chain ends before them, and
//! what they do belongs to `map` and [`reduce`](crate::reduce). `objects` leaves the image as it is.

pub(crate) mod together;

use serde::{Deserialize, Serialize};
use voxel::filter::{self, Boundary, End};
use voxel::label::Connectivity;
use voxel::morphology::{self, Footprint, Outside};
use voxel::threshold::{self, Threshold};
use voxel::{AnyVolume, Dtype, Extent, Region};

use crate::step::{self, Rule, Step};
use crate::{Error, Result};

/// The version of histograms and of what is read off them: even bins, ranks, Otsu's threshold. Raised as
/// [`Op::version`] is.
pub const HISTOGRAM_VERSION: u32 = 1;

/// The version of how a level is made of the one before. Raised as [`Op::version`] is.
pub const LEVEL_VERSION: u32 = 1;

/// One step of a chain, ready to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Op {
    /// Rescales values.
    Rescale(filter::Rescale),
    /// Limits values.
    Clip(filter::Clip),
    /// Changes the type.
    Cast {
        /// The new type.
        dtype: Dtype,
    },
    /// Smooths.
    Gaussian(filter::Gaussian),
    /// Takes medians.
    Median(filter::Median),
    /// Takes means.
    Mean(filter::Mean),
    /// Takes the least or greatest values.
    Extreme(filter::Extreme),
    /// Makes a mask.
    Threshold(Cut),
    /// Shrinks the foreground.
    Erode(Element),
    /// Grows the foreground.
    Dilate(Element),
    /// Erodes, then dilates.
    Open(Element),
    /// Dilates, then erodes.
    Close(Element),
    /// Fills background that does not reach the border of the volume.
    #[serde(rename = "fill_holes")]
    FillHoles {
        /// Of the background.
        connectivity: Connectivity,
    },
    /// Numbers objects.
    Label(Label),
    /// Measures the objects that the values name.
    Objects {
        /// Which neighbours are contacts, if they are wanted.
        contacts: Option<Connectivity>,
    },
}

/// What makes an object, and which are kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Label {
    /// Which voxels are neighbours.
    pub connectivity: Connectivity,
    /// Smaller objects are dropped.
    pub min_voxels: u64,
    /// Larger objects are dropped.
    pub max_voxels: u64,
    /// Objects at the border of the volume are dropped.
    pub clear_border: bool,
    /// Which neighbours are contacts, if they are wanted.
    pub contacts: Option<Connectivity>,
    /// The widest type that labels of so many voxels may need.
    pub dtype: Dtype,
}

/// Where a threshold cuts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cut {
    /// As written in the job.
    Fixed(Threshold),
    /// Above a value that is chosen from the histogram of what comes in, once all of it has been seen.
    Chosen {
        /// How it is chosen.
        by: Choice,
        /// Inside is what is not above.
        invert: bool,
    },
}

/// How a threshold is chosen from a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// Otsu's method.
    Otsu,
    /// A percentile, 0 to 100.
    Percentile(f64),
}

/// A structuring element and what lies outside the image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Element {
    footprint: Footprint,
    outside: Outside,
}

impl Element {
    /// Million voxels a second of one erosion or dilation, as [`Op::rate`] has it.
    fn rate(self) -> f64 {
        match (self.footprint.is_small(), self.footprint) {
            (true, _) => 800.0,
            (false, Footprint::Box(_)) => 400.0,
            (false, Footprint::Ball(_) | Footprint::Cross(_)) => 100.0,
        }
    }
}

impl Op {
    /// The op of a step, for an image of this extent.
    pub fn compile(step: &Step, extent: Extent) -> Result<Op> {
        let planar = extent.planar;
        let element = |m: &step::Morphology| -> Result<Element> {
            let footprint = match &m.shape {
                step::Shape::Ball(radii) => Footprint::Ball(radii.resolve(planar, 0.0)?),
                step::Shape::Box(radii) => Footprint::Box(radii.resolve(planar, 0)?),
                step::Shape::Cross(radius) => Footprint::Cross(*radius),
            };
            let outside = match m.outside {
                step::Outside::Ignore => Outside::Ignore,
                step::Outside::Zero => Outside::Zero,
            };
            Ok(Element { footprint, outside })
        };
        let extreme = |end, w: &step::Window| -> Result<Op> {
            let boundary = boundary(w.mode, w.value);
            Ok(Op::Extreme(filter::Extreme { end, size: w.size.resolve(planar, 1)?, boundary }))
        };
        Ok(match step {
            Step::Rescale(r) => {
                Op::Rescale(filter::Rescale { multiply: r.multiply, divide: r.divide, add: r.add, invert: r.invert })
            }
            Step::Clip(c) => Op::Clip(c.kernel()),
            Step::Cast(c) => Op::Cast { dtype: c.dtype },
            Step::Gaussian(g) => {
                let sigma = g.sigma.resolve(planar, 0.0)?;
                Op::Gaussian(filter::Gaussian::new(sigma, g.truncate, boundary(g.mode, g.value)))
            }
            Step::Median(m) => {
                Op::Median(filter::Median { size: m.size.resolve(planar, 1)?, boundary: boundary(m.mode, m.value) })
            }
            Step::Mean(m) => {
                Op::Mean(filter::Mean { size: m.size.resolve(planar, 1)?, boundary: boundary(m.mode, m.value) })
            }
            Step::Minimum(w) => extreme(End::Minimum, w)?,
            Step::Maximum(w) => extreme(End::Maximum, w)?,
            Step::Threshold(t) => Op::Threshold(Cut::of(t)),
            Step::Erode(m) => Op::Erode(element(m)?),
            Step::Dilate(m) => Op::Dilate(element(m)?),
            Step::Open(m) => Op::Open(element(m)?),
            Step::Close(m) => Op::Close(element(m)?),
            Step::FillHoles(f) => Op::FillHoles { connectivity: neighbours(f.connectivity, planar)? },
            Step::Label(l) => Op::Label(Label {
                connectivity: neighbours(l.connectivity, planar)?,
                min_voxels: l.min_voxels,
                max_voxels: l.max_voxels.unwrap_or(u64::MAX),
                clear_border: l.clear_border,
                contacts: l.contacts.0.map(|c| neighbours(c, planar)).transpose()?,
                // At most every other voxel is an object of its own.
                dtype: match (extent.region().voxels() as u64).div_ceil(2) > u64::from(u32::MAX) {
                    true => Dtype::U64,
                    false => Dtype::U32,
                },
            }),
            Step::Objects(o) => Op::Objects { contacts: o.contacts.0.map(|c| neighbours(c, planar)).transpose()? },
        })
    }

    /// Whether its result is known only when all blocks have been joined, so that no chain runs over it.
    pub fn is_merged(&self) -> bool {
        matches!(self, Op::Label(_) | Op::FillHoles { .. })
    }

    /// Whether it asks which voxels are foreground.
    pub fn takes_foreground(&self) -> bool {
        match self {
            Op::Erode(_) | Op::Dilate(_) | Op::Open(_) | Op::Close(_) => true,
            Op::FillHoles { .. } | Op::Label(_) | Op::Objects { .. } => true,
            Op::Rescale(_) | Op::Clip(_) | Op::Cast { .. } | Op::Threshold(_) => false,
            Op::Gaussian(_) | Op::Median(_) | Op::Mean(_) | Op::Extreme(_) => false,
        }
    }

    /// Whether it says which voxels are foreground.
    pub fn gives_foreground(&self) -> bool {
        match self {
            Op::Threshold(_) | Op::Erode(_) | Op::Dilate(_) | Op::Open(_) | Op::Close(_) => true,
            Op::FillHoles { .. } | Op::Label(_) => true,
            Op::Rescale(_) | Op::Clip(_) | Op::Cast { .. } | Op::Objects { .. } => false,
            Op::Gaussian(_) | Op::Median(_) | Op::Mean(_) | Op::Extreme(_) => false,
        }
    }

    /// Which neighbours are contacts, where they are wanted.
    pub fn contacts(&self) -> Option<Connectivity> {
        match self {
            Op::Label(Label { contacts, .. }) | Op::Objects { contacts } => *contacts,
            _ => None,
        }
    }

    /// The step's name.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Rescale(_) => "rescale",
            Op::Clip(_) => "clip",
            Op::Cast { .. } => "cast",
            Op::Gaussian(_) => "gaussian",
            Op::Median(_) => "median",
            Op::Mean(_) => "mean",
            Op::Extreme(e) => match e.end {
                End::Minimum => "minimum",
                End::Maximum => "maximum",
            },
            Op::Threshold(_) => "threshold",
            Op::Erode(_) => "erode",
            Op::Dilate(_) => "dilate",
            Op::Open(_) => "open",
            Op::Close(_) => "close",
            Op::FillHoles { .. } => "fill_holes",
            Op::Label(_) => "label",
            Op::Objects { .. } => "objects",
        }
    }

    /// The version of what computes it. Raise it whenever the bytes the op gives can change, for voxels as for what it
    /// leaves to be merged (rows, contacts, the histogram a threshold is chosen from): what was left by another version
    /// is then no longer taken for what this one would give. `tests/golden/ops.txt` has a hash for each version.
    pub fn version(&self) -> u32 {
        match self {
            Op::Rescale(_) => 1,
            Op::Clip(_) => 1,
            Op::Cast { .. } => 1,
            // NaNs of any sign and payload have become the one.
            Op::Gaussian(_) => 2,
            Op::Median(_) => 1,
            Op::Mean(_) => 1,
            Op::Extreme(_) => 1,
            Op::Threshold(_) => 1,
            Op::Erode(_) => 1,
            Op::Dilate(_) => 1,
            Op::Open(_) => 1,
            Op::Close(_) => 1,
            Op::FillHoles { .. } => 1,
            Op::Label(_) => 1,
            Op::Objects { .. } => 1,
        }
    }

    /// Voxels around a voxel that decide its value, along z, y, x.
    pub fn halo(&self, extent: Extent) -> [usize; 3] {
        match self {
            Op::Rescale(_) | Op::Clip(_) | Op::Cast { .. } | Op::Threshold(_) => [0; 3],
            Op::FillHoles { .. } | Op::Label(_) | Op::Objects { .. } => [0; 3],
            Op::Gaussian(g) => g.halo(),
            Op::Median(m) => m.halo(),
            Op::Mean(m) => m.halo(),
            Op::Extreme(e) => e.halo(),
            Op::Erode(e) | Op::Dilate(e) => e.footprint.halo(extent),
            Op::Open(e) | Op::Close(e) => e.footprint.halo_twice(extent),
        }
    }

    /// The type it gives for `input`.
    pub fn output_dtype(&self, input: Dtype) -> Dtype {
        match self {
            Op::Rescale(_) | Op::Gaussian(_) | Op::Mean(_) => input.averaged(),
            Op::Cast { dtype } => *dtype,
            Op::Clip(_) | Op::Median(_) | Op::Extreme(_) => input,
            Op::Threshold(_) | Op::Erode(_) | Op::Dilate(_) | Op::Open(_) | Op::Close(_) => Dtype::Bool,
            Op::FillHoles { .. } => Dtype::Bool,
            Op::Label(label) => label.dtype,
            Op::Objects { .. } => input,
        }
    }

    /// The voxels of `out`, from a box that holds `out` grown by the halo. `chosen` is the threshold of a
    /// [`Cut::Chosen`].
    pub fn apply(&self, input: AnyVolume, out: Region, extent: Extent, chosen: Option<f64>) -> AnyVolume {
        match self {
            Op::Rescale(r) => r.apply(input, out),
            Op::Clip(c) => c.apply(input, out),
            Op::Cast { dtype } => filter::cast(input, out, *dtype),
            Op::Gaussian(g) => g.apply(input, out, extent),
            Op::Median(m) => m.apply(input, out, extent),
            Op::Mean(m) => m.apply(input, out, extent),
            Op::Extreme(e) => e.apply(input, out, extent),
            Op::Threshold(cut) => threshold::threshold(input, out, &cut.resolve(chosen)),
            Op::Erode(e) => morphology::erode(input, out, extent, e.footprint, e.outside),
            Op::Dilate(e) => morphology::dilate(input, out, extent, e.footprint),
            Op::Open(e) => morphology::open(input, out, extent, e.footprint, e.outside),
            Op::Close(e) => morphology::close(input, out, extent, e.footprint, e.outside),
            Op::Objects { .. } => input.into_cropped(out),
            // No pass runs over these: see `is_merged`.
            Op::FillHoles { .. } | Op::Label(_) => input.into_cropped(out),
        }
    }

    /// Bytes of voxels alive at once while [`Op::apply`] runs, input and output included.
    pub fn peak_bytes(&self, dtype: Dtype, input: Region, out: Region, extent: Extent) -> usize {
        match self {
            Op::Rescale(r) => r.peak_bytes(dtype, input, out),
            Op::Clip(c) => c.peak_bytes(dtype, input, out),
            Op::Cast { dtype: to } => filter::cast_peak_bytes(dtype, *to, input, out),
            Op::Gaussian(g) => g.peak_bytes(dtype, input, out),
            Op::Median(m) => m.peak_bytes(dtype, input, out),
            Op::Mean(m) => m.peak_bytes(dtype, input, out, extent),
            Op::Extreme(e) => e.peak_bytes(dtype, input, out, extent),
            Op::Threshold(_) => threshold::peak_bytes(dtype, input, out),
            Op::Erode(e) | Op::Dilate(e) => e.footprint.peak_bytes(dtype, input, out, extent),
            Op::Open(e) | Op::Close(e) => e.footprint.peak_bytes_twice(dtype, input, out, extent),
            Op::FillHoles { .. } | Op::Label(_) | Op::Objects { .. } => (input.voxels() + out.voxels()) * dtype.size(),
        }
    }

    /// Million voxels a second on one thread, roughly: what segments, and the choice between spilling and computing
    /// again, are sized by. Measured on the kernels' own benchmarks to one digit.
    pub fn rate(&self) -> f64 {
        1e6 * match self {
            Op::Rescale(_) | Op::Clip(_) | Op::Cast { .. } => 800.0,
            Op::Threshold(_) => 2000.0,
            Op::Gaussian(g) => 8000.0 / g.taps.iter().map(Vec::len).sum::<usize>().max(1) as f64,
            Op::Median(m) => 8000.0 / m.size.iter().product::<usize>() as f64,
            Op::Mean(m) => 3000.0 / m.size.iter().sum::<usize>() as f64,
            Op::Extreme(_) => 400.0,
            Op::Erode(e) | Op::Dilate(e) => e.rate(),
            Op::Open(e) | Op::Close(e) => e.rate() / 2.0,
            // What merging and measuring take is counted with what a pass leaves.
            Op::FillHoles { .. } | Op::Label(_) | Op::Objects { .. } => 1e6,
        }
    }
}

/// The kernel's connectivity for the one that was written.
fn neighbours(connectivity: step::Connectivity, planar: bool) -> Result<Connectivity> {
    let neighbours = connectivity.neighbours(planar)?;
    neighbours.try_into().map_err(|e| Error::internal(format!("the job's connectivity is none of the kernel's: {e}")))
}

fn boundary(mode: step::Mode, value: Option<step::Number>) -> Boundary {
    match mode {
        step::Mode::Reflect => Boundary::Reflect,
        step::Mode::Nearest => Boundary::Nearest,
        step::Mode::Mirror => Boundary::Mirror,
        step::Mode::Constant => Boundary::Constant(value.map_or(0.0, |v| v.0)),
    }
}

impl Cut {
    fn of(step: &step::Threshold) -> Self {
        let invert = step.invert;
        let fixed = |cut| Cut::Fixed(Threshold { cut, invert });
        match step.rule {
            Rule::Above(a) => fixed(threshold::Cut::Above(a)),
            Rule::Below(b) => fixed(threshold::Cut::Below(b)),
            Rule::Between(a, b) => fixed(threshold::Cut::Between(a, b)),
            Rule::Otsu => Cut::Chosen { by: Choice::Otsu, invert },
            Rule::Percentile(p) => Cut::Chosen { by: Choice::Percentile(p), invert },
        }
    }

    fn resolve(&self, chosen: Option<f64>) -> Threshold {
        match *self {
            Cut::Fixed(threshold) => threshold,
            // NaN lets nothing in; the stage that chooses fails before it leaves nothing chosen.
            Cut::Chosen { invert, .. } => Threshold { cut: threshold::Cut::Above(chosen.unwrap_or(f64::NAN)), invert },
        }
    }
}

/// The type after each op, starting with `input` itself.
pub fn dtypes(ops: &[Op], input: Dtype) -> Vec<Dtype> {
    let mut dtypes = vec![input];
    for op in ops {
        dtypes.push(op.output_dtype(dtypes[dtypes.len() - 1]));
    }
    dtypes
}
