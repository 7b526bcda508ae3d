//! `erode`, `dilate`, `open` and `close`: exactly one of several structuring elements.

use super::PerAxis;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Parameters of `erode`, `dilate`, `open` and `close`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "MorphologyKeys", into = "MorphologyKeys")]
pub struct Morphology {
    /// The structuring element.
    pub shape: Shape,
    /// What lies beyond the faces of the volume.
    pub outside: Outside,
}

/// A structuring element, with its radius in voxels.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Every offset with (dz/rz)^2 + (dy/ry)^2 + (dx/rx)^2 <= 1.
    Ball(PerAxis<f64>),
    /// Every offset with |d| <= r along each axis.
    Box(PerAxis<usize>),
    /// Every offset with |dz| + |dy| + |dx| <= r.
    Cross(usize),
}

/// `erode` and so on as they are written.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Morphology")]
struct MorphologyKeys {
    /// Radius in voxels: one number r for every offset with dz^2 + dy^2 + dx^2 <= r^2, or z,y,x (y,x for 2-D images)
    /// for (dz/rz)^2 + (dy/ry)^2 + (dx/rx)^2 <= 1; 0 for no extension along an axis. Exactly one of ball, box and
    /// cross is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ball: Option<PerAxis<f64>>,
    /// Radius in whole voxels, one number or z,y,x: every offset with |d| <= r along each axis, a box of 2r + 1 voxels.
    #[serde(rename = "box", default, skip_serializing_if = "Option::is_none")]
    box_: Option<PerAxis<usize>>,
    /// Radius in whole voxels: every offset with |dz| + |dy| + |dx| <= r; cross = 1 is a voxel and its faces'
    /// neighbours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cross: Option<usize>,
    /// What lies beyond the faces of the volume: ignore (it never decides) or zero (background).
    #[serde(default)]
    outside: Outside,
}

impl TryFrom<MorphologyKeys> for Morphology {
    type Error = &'static str;

    fn try_from(keys: MorphologyKeys) -> Result<Self, Self::Error> {
        let shapes = [keys.ball.map(Shape::Ball), keys.box_.map(Shape::Box), keys.cross.map(Shape::Cross)];
        let mut shapes = shapes.into_iter().flatten();
        match (shapes.next(), shapes.next()) {
            (Some(shape), None) => Ok(Self { shape, outside: keys.outside }),
            (None, _) => Err("needs one of `ball`, `box` and `cross`"),
            _ => Err("takes only one of `ball`, `box` and `cross`"),
        }
    }
}

impl From<Morphology> for MorphologyKeys {
    fn from(morphology: Morphology) -> Self {
        let mut keys = Self { ball: None, box_: None, cross: None, outside: morphology.outside };
        match morphology.shape {
            Shape::Ball(radii) => keys.ball = Some(radii),
            Shape::Box(radii) => keys.box_ = Some(radii),
            Shape::Cross(radius) => keys.cross = Some(radius),
        }
        keys
    }
}

/// What morphology sees beyond the faces of the volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Outside {
    /// Never decides: closing never removes, opening never adds (scikit-image).
    #[default]
    Ignore,
    /// Background (scipy).
    Zero,
}
