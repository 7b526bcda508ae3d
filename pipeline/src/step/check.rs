//! The numbers a step refuses, whatever its input is.

use super::{Clip, Gaussian, Label, Mode, Morphology, Number, PerAxis, Rescale, Rule, Shape, Step, Threshold, Window};
use crate::Result;
use crate::fault::Fault;
use voxel::{Dtype, Element, with_dtype};

/// The largest radius of a kernel or structuring element, in voxels. A halo this wide is already eight of the default chunks each way;
/// more is a slip of the pen, or wants a coarser level.
const RADIUS_MAX: f64 = 1024.0;

/// The widest window, in voxels along an axis.
const SIZE_MAX: usize = 255;

impl Step {
    /// Checks every parameter that can be checked without the input: finite numbers, sensible radii, odd widths. The
    /// error is [`crate::Error::invalid`] and names the parameter and its value, not the step, whose number only the
    /// caller knows.
    pub fn validate(&self) -> Result<()> {
        Ok(self.check()?)
    }

    /// [`Step::validate`], with the parameter's place in the step.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        match self {
            Self::Rescale(step) => rescale(step),
            Self::Gaussian(step) => gaussian(step),
            Self::Clip(step) => clip(step),
            Self::Median(step) | Self::Mean(step) | Self::Minimum(step) | Self::Maximum(step) => window(step),
            Self::Threshold(step) => threshold(step),
            Self::Erode(step) | Self::Dilate(step) | Self::Open(step) | Self::Close(step) => morphology(step),
            Self::Label(step) => label(step),
            Self::Cast(_) | Self::FillHoles(_) | Self::Objects(_) => Ok(()),
        }
    }
}

fn refuse<T>(key: &str, message: String) -> Result<T, Fault> {
    Err(Fault::new(format!("/{key}"), message))
}

fn finite(key: &str, value: f64) -> Result<(), Fault> {
    if value.is_finite() { Ok(()) } else { refuse(key, format!("`{key}` is {value}, but must be a finite number")) }
}

fn rescale(step: &Rescale) -> Result<(), Fault> {
    finite("multiply", step.multiply)?;
    finite("divide", step.divide)?;
    finite("add", step.add)?;
    if step.divide == 0.0 {
        return refuse("divide", "`divide` is 0, and nothing can be divided by it".to_owned());
    }
    Ok(())
}

fn clip(step: &Clip) -> Result<(), Fault> {
    for (key, bound) in [("low", step.low), ("high", step.high)] {
        if bound.is_some_and(|bound| bound.0.is_nan()) {
            return refuse(key, format!("`{key}` is NaN, which bounds nothing"));
        }
    }
    match (step.low, step.high) {
        (None, None) => Err(Fault::new("", "`low`, `high` or both must be given")),
        (Some(low), Some(high)) if low.0 > high.0 => {
            refuse("low", format!("`low` is {} and `high` is {}, but must not be the smaller one", low.0, high.0))
        }
        _ => Ok(()),
    }
}

fn gaussian(step: &Gaussian) -> Result<(), Fault> {
    axes("sigma", &step.sigma)?;
    for &sigma in step.sigma.values() {
        finite("sigma", sigma)?;
        if sigma < 0.0 {
            return refuse("sigma", format!("`sigma` is {sigma}, but must be 0 or more"));
        }
    }
    finite("truncate", step.truncate)?;
    if step.truncate < 0.0 {
        return refuse("truncate", format!("`truncate` is {}, but must be 0 or more", step.truncate));
    }
    for &sigma in step.sigma.values() {
        let radius = (step.truncate * sigma + 0.5).floor();
        if radius > RADIUS_MAX {
            let fault = format!(
                "`sigma` {sigma} with `truncate` {} makes a kernel of radius {radius} voxels, and the limit is {RADIUS_MAX}",
                step.truncate
            );
            return refuse("sigma", fault).map_err(|f| f.hint("smooth a coarser `level` of the image instead"));
        }
    }
    beyond(step.mode, step.value)
}

fn window(step: &Window) -> Result<(), Fault> {
    axes("size", &step.size)?;
    for &size in step.size.values() {
        if size % 2 == 0 || size > SIZE_MAX {
            return refuse("size", format!("`size` is {size}, but must be an odd number from 1 to {SIZE_MAX}"));
        }
    }
    beyond(step.mode, step.value)
}

fn threshold(step: &Threshold) -> Result<(), Fault> {
    match step.rule {
        Rule::Above(a) if a.is_nan() => refuse("above", "`above` is NaN, which no value is above".to_owned()),
        Rule::Below(b) if b.is_nan() => refuse("below", "`below` is NaN, which no value is below".to_owned()),
        Rule::Between(a, b) if a > b || a.is_nan() || b.is_nan() => {
            refuse("between", format!("`between` is {a},{b}, but its first number must not be the larger one"))
        }
        Rule::Percentile(p) if !(0.0..=100.0).contains(&p) => {
            refuse("percentile", format!("`percentile` is {p}, but must be from 0 to 100"))
        }
        _ => Ok(()),
    }
}

fn morphology(step: &Morphology) -> Result<(), Fault> {
    let radii = |key: &str, radii: &[f64]| {
        let within = |r: &f64| (0.0..=RADIUS_MAX).contains(r);
        if let Some(r) = radii.iter().find(|r| !within(r)).or(radii.iter().all(|r| *r == 0.0).then_some(&0.0)) {
            let fault = format!("`{key}` is {r}, but must be a radius above 0 and up to {RADIUS_MAX} voxels");
            return refuse(key, fault);
        }
        Ok(())
    };
    match &step.shape {
        Shape::Ball(ball) => axes("ball", ball).and_then(|()| radii("ball", ball.values())),
        Shape::Box(sides) => {
            let values: Vec<f64> = sides.values().iter().map(|r| *r as f64).collect();
            axes("box", sides).and_then(|()| radii("box", &values))
        }
        Shape::Cross(radius) => radii("cross", &[*radius as f64]),
    }
}

/// Whether a voxel of the type can have this value; floats may round it, but not to infinity.
pub(super) fn holds(dtype: Dtype, value: f64) -> bool {
    fn back<T: Element>(value: f64) -> f64 {
        T::from_f64(value).to_f64()
    }
    if dtype.is_float() {
        return !value.is_finite() || with_dtype!(dtype, T => back::<T>(value)).is_finite();
    }
    // 2^64 saturates to an integer that comes back rounded to it.
    value < 18_446_744_073_709_551_616.0
        && !(dtype == Dtype::I64 && value >= 9_223_372_036_854_775_808.0)
        && with_dtype!(dtype, T => back::<T>(value)) == value
}

fn label(step: &Label) -> Result<(), Fault> {
    match step.max_voxels {
        Some(max) if max < step.min_voxels.max(1) => {
            let message = format!("`max_voxels` is {max}, but `min_voxels` is {}: no object is left", step.min_voxels);
            refuse("max_voxels", message)
        }
        _ => Ok(()),
    }
}

fn axes<T: Copy + PartialEq>(key: &str, values: &PerAxis<T>) -> Result<(), Fault> {
    match values.values().len() {
        1 if matches!(values, PerAxis::All(_)) => Ok(()),
        2 | 3 => Ok(()),
        n => refuse(key, format!("`{key}` is a list of {n}, but must be one number, z,y,x, or y,x for 2-D images")),
    }
}

fn beyond(mode: Mode, value: Option<Number>) -> Result<(), Fault> {
    match value {
        Some(_) if mode != Mode::Constant => Err(Fault::new("/value", "`value` is read only with `mode` = constant")
            .hint("add mode = constant, or leave `value` out")),
        _ => Ok(()),
    }
}
