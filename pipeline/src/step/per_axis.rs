//! A parameter that is one number for all axes or a list with one for each.

use crate::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One value for every axis, or a list in array order: z,y,x, or y,x for a 2-D image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "takes a number or a list of numbers, one for each axis")]
#[schemars(inline)]
pub enum PerAxis<T> {
    /// The same along every axis.
    All(T),
    /// One for each axis.
    Each(Vec<T>),
}

impl<T: Copy + PartialEq> PerAxis<T> {
    /// The values along z, y, x. A planar image has no z: its z gets `absent`, whatever was written, and a list has
    /// two values. A list of another length than the image has axes is [`Error::invalid`].
    pub fn resolve(&self, planar: bool, absent: T) -> Result<[T; 3]> {
        match (self, planar) {
            (Self::All(v), false) => Ok([*v; 3]),
            (Self::All(v), true) => Ok([absent, *v, *v]),
            (Self::Each(list), _) => match (list.as_slice(), planar) {
                ([z, y, x], false) => Ok([*z, *y, *x]),
                ([y, x], true) => Ok([absent, *y, *x]),
                (other, _) => Err(Error::invalid(format!(
                    "a list of {} was given, but the image has {}",
                    other.len(),
                    if planar { "two axes (y, x)" } else { "three axes (z, y, x)" }
                ))
                .hint("write one number, or one for each axis")),
            },
        }
    }

    /// Every value that was written.
    pub fn values(&self) -> &[T] {
        match self {
            Self::All(v) => std::slice::from_ref(v),
            Self::Each(list) => list,
        }
    }

    /// The shortest way to say the same: a list of equal values is one value.
    pub(crate) fn canonical(self) -> Self {
        match self {
            Self::Each(list) if list.windows(2).all(|pair| pair[0] == pair[1]) => match list.first() {
                Some(v) => Self::All(*v),
                None => Self::Each(list),
            },
            other => other,
        }
    }
}

/// As flags write it: `64` or `32,64,64`, with or without brackets.
impl<T: std::str::FromStr> std::str::FromStr for PerAxis<T> {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |word: &str| {
            word.trim()
                .parse()
                .map_err(|_| Error::invalid(format!("`{text}` is not a number, nor a list like 32,64,64")))
        };
        let inside = text.trim().strip_prefix('[').and_then(|t| t.strip_suffix(']'));
        match inside.or(text.contains(',').then_some(text)) {
            Some(list) => Ok(Self::Each(list.split(',').map(number).collect::<Result<_>>()?)),
            None => Ok(Self::All(number(text)?)),
        }
    }
}

impl<T: std::fmt::Display> std::fmt::Display for PerAxis<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All(v) => v.fmt(f),
            Self::Each(list) => {
                for (i, v) in list.iter().enumerate() {
                    write!(f, "{}{v}", if i == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}
