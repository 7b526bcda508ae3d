//! What a user says of a file besides its name: which of several images it holds is meant, or what raw voxels are.

use super::raw::Raw;
use pipeline::{Error, Result};

/// Which image of a file to import.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Channel, from 0; needed when the file has several.
    pub channel: Option<usize>,
    /// Time point, from 0; needed when the file has several.
    pub time: Option<usize>,
    /// Member of an archive; needed when it has several arrays.
    pub member: Option<String>,
    /// The file is raw voxels of this shape and type.
    pub raw: Option<Raw>,
}

/// Names are listed up to this many.
const LISTED_MAX: usize = 12;

impl Reading {
    /// The channel or time point that is meant of the `count` there are.
    pub(super) fn pick(
        &self,
        place: &str,
        what: &str,
        chosen: Option<usize>,
        count: usize,
        names: &[String],
    ) -> Result<usize> {
        let plural = if what == "time" { "time points" } else { "channels" };
        let choices = || {
            if names.len() == count && count <= LISTED_MAX && names.iter().all(|name| !name.is_empty()) {
                let named: Vec<String> = names.iter().enumerate().map(|(i, name)| format!("{i} ({name})")).collect();
                format!("choose one with --{what}: {}", named.join(", "))
            } else {
                format!("choose one with --{what}, from 0 to {}", count - 1)
            }
        };
        match chosen {
            Some(n) if n < count => Ok(n),
            Some(n) if count == 1 => {
                Err(Error::invalid(format!("{place} has no {what} {n}: it has one"))
                    .hint(format!("leave out --{what}")))
            }
            Some(n) => Err(Error::invalid(format!("{place} has no {what} {n}: it has {count}")).hint(choices())),
            None if count == 1 => Ok(0),
            None => {
                Err(Error::invalid(format!("{place} holds {count} {plural}, but a volume has one")).hint(choices()))
            }
        }
    }

    /// For formats that hold one image: refuses a choice.
    pub(super) fn only_one(&self, place: &str) -> Result<()> {
        self.pick(place, "channel", self.channel, 1, &[])?;
        self.pick(place, "time", self.time, 1, &[])?;
        self.only_one_member(place)
    }

    /// For files that are no archives: refuses a member.
    pub(super) fn only_one_member(&self, place: &str) -> Result<()> {
        match &self.member {
            None => Ok(()),
            Some(_) => {
                Err(Error::invalid(format!("{place} is no archive, and has no members")).hint("leave out --member"))
            }
        }
    }
}
