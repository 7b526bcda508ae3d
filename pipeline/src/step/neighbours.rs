//! Which voxels are neighbours, as a number that is read and written: of one object, or of two that touch.

use crate::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Over which neighbours objects touch, where that is asked for. Written `none` or as a connectivity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "serde_json::Value", into = "serde_json::Value")]
pub struct Contacts(pub Option<Connectivity>);

impl TryFrom<serde_json::Value> for Contacts {
    type Error = &'static str;

    fn try_from(written: serde_json::Value) -> Result<Self, Self::Error> {
        const TAKES: &str = "takes none, 6, 18 or 26 (for 2-D images also 4 or 8)";
        match (written.as_str(), written.as_u64()) {
            (Some("none"), _) => Ok(Self(None)),
            (_, Some(neighbours)) => neighbours.try_into().map(|c| Self(Some(c))).map_err(|_| TAKES),
            _ => Err(TAKES),
        }
    }
}

impl From<Contacts> for serde_json::Value {
    fn from(contacts: Contacts) -> Self {
        contacts.0.map_or_else(|| "none".into(), |connectivity| u64::from(connectivity).into())
    }
}

impl JsonSchema for Contacts {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Contacts".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "enum": ["none", 4, 6, 8, 18, 26] })
    }
}

/// The number of neighbours of a voxel, as written. [`Connectivity::neighbours`] says what it means for an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
#[allow(missing_docs)]
pub enum Connectivity {
    Four,
    #[default]
    Six,
    Eight,
    Eighteen,
    TwentySix,
}

impl Connectivity {
    /// 6, 18 or 26: the neighbourhood in three dimensions. For a planar image 4 is 6 and 8 is 26, of which one plane
    /// has exactly those neighbours; a volume takes 6, 18 and 26 only.
    pub fn neighbours(self, planar: bool) -> Result<u8> {
        match self {
            Self::Six => Ok(6),
            Self::Eighteen => Ok(18),
            Self::TwentySix => Ok(26),
            Self::Four if planar => Ok(6),
            Self::Eight if planar => Ok(26),
            Self::Four | Self::Eight => Err(Error::invalid(format!(
                "connectivity {} is for 2-D images, but the image has three axes",
                u64::from(self)
            ))
            .hint("write connectivity = 6, 18 or 26")),
        }
    }
}

impl TryFrom<u64> for Connectivity {
    type Error = &'static str;

    fn try_from(neighbours: u64) -> Result<Self, Self::Error> {
        match neighbours {
            4 => Ok(Self::Four),
            6 => Ok(Self::Six),
            8 => Ok(Self::Eight),
            18 => Ok(Self::Eighteen),
            26 => Ok(Self::TwentySix),
            _ => Err("takes 6, 18 or 26 (for 2-D images also 4 or 8)"),
        }
    }
}

impl From<Connectivity> for u64 {
    fn from(connectivity: Connectivity) -> Self {
        match connectivity {
            Connectivity::Four => 4,
            Connectivity::Six => 6,
            Connectivity::Eight => 8,
            Connectivity::Eighteen => 18,
            Connectivity::TwentySix => 26,
        }
    }
}

impl JsonSchema for Connectivity {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Connectivity".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "integer", "enum": [4, 6, 8, 18, 26] })
    }
}
