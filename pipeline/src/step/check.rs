//! The numbers a step refuses, whatever its input is.

use super::{Gaussian, Label, Median, Mode, Morphology, Number, PerAxis, Rescale, Rule, Step, Threshold};
use crate::Result;
use crate::fault::Fault;

/// The largest kernel or ball radius, in voxels. A halo this wide is already eight of the default chunks each way;
/// more is a slip of the pen, or wants a coarser level.
const RADIUS_MAX: f64 = 1024.0;

/// The widest median window, in voxels along an axis.
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
            Self::Median(step) => median(step),
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

fn median(step: &Median) -> Result<(), Fault> {
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
    if step.ball > 0.0 && step.ball <= RADIUS_MAX {
        return Ok(());
    }
    refuse("ball", format!("`ball` is {}, but must be a radius above 0 and up to {RADIUS_MAX} voxels", step.ball))
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
