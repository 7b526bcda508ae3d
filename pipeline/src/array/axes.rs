//! Which stored axes are the image's z, y, x, and which index is taken of the others.

use serde::{Deserialize, Serialize};
use voxel::Extent;

use super::Pick;
use crate::{Error, Result};

/// What an axis counts, in the order in which OME-Zarr has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Time points.
    Time,
    /// Channels.
    Channel,
    /// Voxels.
    Space,
}

impl Kind {
    /// The kind that an axis of that name usually has.
    pub(super) fn of_name(name: &str) -> Kind {
        match name.to_lowercase().as_str() {
            "t" | "time" => Kind::Time,
            "c" | "ch" | "channel" | "channels" => Kind::Channel,
            _ => Kind::Space,
        }
    }
}

/// One stored axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// The unit's full name.
    pub(super) unit: Option<String>,
}

/// How stored axes become an image.
#[derive(Debug, PartialEq)]
pub(super) struct Axes {
    /// The stored axes of z, y, x; no z when the image is planar.
    pub(super) spatial: [Option<usize>; 3],
    /// The other axes, ascending, and the index taken of each.
    pub(super) fixed: Vec<(usize, u64)>,
    /// Names of the spatial axes: two or three.
    pub(super) names: Vec<String>,
    pub(super) extent: Extent,
}

/// Names for axes that have none, by their number: y, x; z, y, x; c, z, y, x; t, c, z, y, x.
pub(super) fn by_position(axes: usize) -> Vec<Axis> {
    let names = ["t", "c", "z", "y", "x"];
    let axis = |name: &&str| Axis { name: (*name).to_owned(), kind: Kind::of_name(name), unit: None };
    names[names.len().saturating_sub(axes)..].iter().map(axis).collect()
}

/// Axes from an array's own dimension names; by position where there are none, or where more than three would be
/// spatial, which says that the names are not about space.
pub(super) fn by_name(names: Option<&[Option<String>]>, axes: usize) -> Vec<Axis> {
    let positional = by_position(axes);
    let Some(names) = names else { return positional };
    let named: Vec<Axis> = names
        .iter()
        .zip(&positional)
        .map(|(name, fallback)| match name.as_deref() {
            Some(name) if !name.is_empty() => Axis { name: name.to_owned(), kind: Kind::of_name(name), unit: None },
            _ => fallback.clone(),
        })
        .collect();
    let spatial = named.iter().filter(|axis| axis.kind == Kind::Space).count();
    if named.len() == axes && spatial <= 3 { named } else { positional }
}

impl Axes {
    /// Finds z, y, x among `axes` of an array of `shape` and takes the picked index of the rest. The last spatial axes
    /// are z, y, x in stored order, whatever their names. `channels` are names for the choices in messages.
    ///
    /// # Errors
    /// Invalid with fewer than two or more than three spatial axes, and when an axis longer than one is not picked.
    pub(super) fn pick(url: &str, shape: &[u64], axes: &[Axis], channels: &[String], pick: &Pick) -> Result<Axes> {
        let of_kind = |kind: Kind| (0..shape.len()).filter(move |a| axes.get(*a).is_some_and(|axis| axis.kind == kind));
        let space: Vec<usize> = of_kind(Kind::Space).collect();
        let spatial = match space[..] {
            [y, x] => [None, Some(y), Some(x)],
            [z, y, x] => [Some(z), Some(y), Some(x)],
            _ => {
                let names: Vec<&str> = axes.iter().map(|axis| axis.name.as_str()).collect();
                return Err(Error::invalid(format!(
                    "{url} has {} spatial {} (axes {}, shape {shape:?}); voxmill works on images of two or three",
                    space.len(),
                    if space.len() == 1 { "axis" } else { "axes" },
                    names.join(", ")
                )));
            }
        };
        let mut fixed = Vec::new();
        for (kind, noun, many, wanted, labels) in [
            (Kind::Time, "time", "time points", pick.time, &[][..]),
            (Kind::Channel, "channel", "channels", pick.channel, channels),
        ] {
            let stored: Vec<usize> = of_kind(kind).collect();
            match stored[..] {
                [] => match wanted {
                    None | Some(0) => {}
                    Some(wanted) => {
                        return Err(Error::invalid(format!("{noun} {wanted} was asked for, {url} has no {noun} axis")));
                    }
                },
                [axis] => fixed.push((axis, chosen(url, noun, many, shape[axis], wanted, labels)?)),
                _ => return Err(Error::invalid(format!("{url} has more than one {noun} axis"))),
            }
        }
        fixed.sort_unstable();
        let len = |axis: Option<usize>| axis.map_or(1, |axis| shape[axis] as usize);
        Ok(Axes {
            spatial,
            fixed,
            names: space.iter().map(|a| axes[*a].name.clone()).collect(),
            extent: Extent { shape: spatial.map(len), planar: spatial[0].is_none() },
        })
    }
}

fn chosen(url: &str, noun: &str, many: &str, len: u64, wanted: Option<usize>, labels: &[String]) -> Result<u64> {
    match wanted {
        None if len == 1 => Ok(0),
        Some(wanted) if (wanted as u64) < len => Ok(wanted as u64),
        _ => {
            let listed: Vec<String> =
                labels.iter().take(len as usize).enumerate().map(|(i, l)| format!("{i} ({l})")).collect();
            let choices = if listed.is_empty() { format!("0 to {}", len - 1) } else { listed.join(", ") };
            let problem = match wanted {
                None => format!("{url} has {len} {many}, and one must be chosen: {choices}"),
                Some(wanted) => format!("{noun} {wanted} was asked for, {url} has {many} {choices}"),
            };
            Err(Error::invalid(problem).hint(format!("say {noun} = 0 in the job, or --{noun} 0")))
        }
    }
}
