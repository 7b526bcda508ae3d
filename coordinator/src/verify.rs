//! `voxmill verify`: whether the answers of a finished run are what it wrote, and what it wrote is right.

use std::fmt;

use pipeline::publish::Manifest;
use pipeline::sources::Sources;
use pipeline::store::Stores;
use pipeline::verify::{Verified, Windows, objects};
use pipeline::{Error, Result};
use serde::Serialize;

use crate::dice::Dice;
use crate::progress::Progress;
use crate::run::wall_clock;
use crate::units::{self, Bytes};

/// How much is looked at.
pub(crate) struct Options {
    /// Windows of each image that are computed anew.
    pub(crate) windows: u64,
    /// Where they lie; by chance when none is given.
    pub(crate) seed: Option<u64>,
    /// For a window with all that decides it.
    pub(crate) memory_bytes: u64,
}

/// What a verification found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Folder of the answers.
    pub(crate) output: String,
    /// Of the windows; the same seed looks at the same ones.
    pub(crate) seed: u64,
    #[serde(flatten)]
    pub(crate) verified: Verified,
}

impl Report {
    /// Ends well when nothing was found.
    ///
    /// # Errors
    /// Data, with the first of what was.
    pub(crate) fn verdict(&self) -> Result<()> {
        const TOLD: usize = 20;
        let faults = &self.verified.faults;
        if faults.is_empty() {
            return Ok(());
        }
        let mut message = format!("{} does not hold what its run wrote: {} faults", self.output, faults.len());
        for fault in faults.iter().take(TOLD) {
            message.push_str(&format!("\n  {fault}"));
        }
        if faults.len() > TOLD {
            message.push_str(&format!("\n  and {} more", faults.len() - TOLD));
        }
        Err(Error::data(message).hint("run the job again with --overwrite to compute everything anew"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verified { objects, bytes, windows, voxels, faults, left_out } = &self.verified;
        let whole = if faults.is_empty() { ", each as it was written" } else { "" };
        writeln!(f, "answers    {} objects of {}{whole}", units::count(*objects), Bytes(*bytes))?;
        for left_out in left_out {
            writeln!(f, "left out   {left_out}")?;
        }
        let same = if faults.is_empty() && *windows > 0 { ", the same without blocks" } else { "" };
        write!(f, "windows    {windows} of {} voxels{same} (--seed {})", units::count(*voxels), self.seed)
    }
}

/// Verifies the finished run in `output`.
///
/// # Errors
/// Invalid when there is none. What is wrong with its answers is no error here: see [`Report::verdict`].
pub(crate) async fn verify(stores: &Stores, output: &str, options: &Options, progress: &Progress) -> Result<Report> {
    let store = stores.open(output).await?;
    let manifest = Manifest::read(&store).await?.ok_or_else(|| {
        Error::invalid(format!("there is no finished run in {}", store.url()))
            .hint("name the folder that was given to `voxmill run` with -o; `voxmill status` says how far its run is")
    })?;
    let mut verified = Verified::default();
    objects(&store, &manifest, &mut verified, |done, all| progress.of_some("answers", done, all)).await?;
    progress.stage_done();

    let seed = options
        .seed
        .unwrap_or_else(|| Dice::new(u64::from(std::process::id()) ^ wall_clock().now().0).next() % 1_000_000);
    let sources = Sources::open(stores, &manifest.plan).await;
    match sources {
        Err(error) => verified.left_out.push(format!("all windows: {}", error.message)),
        Ok(sources) if manifest.is_current(&sources).await? == Some(false) => {
            verified.left_out.push("all windows: the input has changed since it was read".into());
        }
        Ok(sources) => {
            let dice = Dice::new(seed);
            let random = |below: u64| dice.next() % below.max(1);
            let windows = Windows::new(&store, &manifest, &sources, options.memory_bytes);
            windows
                .check(options.windows, random, |done, all| progress.of_some("windows", done, all), &mut verified)
                .await?;
            progress.stage_done();
        }
    }
    Ok(Report { output: store.url().to_owned(), seed, verified })
}
