//! `voxmill demo`: the whole way once, on a small real volume that is part of the program.

use std::path::Path;

use pipeline::array::{Array, Pick};
use pipeline::job::Job;
use pipeline::store::Stores;
use pipeline::{Error, Result};

use crate::exit::Stop;
use crate::import;
use crate::run::{self, Settings};

/// Micro-CT of trabecular bone; source and licence are in `examples/README.md`.
const VOLUME: &[u8] = include_bytes!("../../examples/bone.tif");
/// The job that is run on it.
const JOB: &str = include_str!("../../examples/demo.toml");

/// Imports the example volume into `folder` and runs the example job on it.
pub(crate) async fn demo(stores: &Stores, folder: &Path, settings: &Settings) -> Result<(), Stop> {
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, bytes)).map_err(|e| {
            Error::invalid(format!("{} can't be written: {e}", path.display()))
                .hint("name another folder: voxmill demo DIR")
        })
    };
    let at = |name: &str| folder.join(name).to_string_lossy().into_owned();
    write("bone.tif", VOLUME)?;
    let (input, output) = (at("bone.zarr"), at("bone-voxmill"));
    let mut job = Job::from_toml(JOB)?;
    (job.input, job.output) = (input.clone(), Some(output.clone()));
    // Importing again would make it a new input.
    if settings.overwrite || Array::open(stores, &input, &Pick::default()).await.is_err() {
        if !settings.quiet {
            eprintln!("$ voxmill import {} {input}", at("bone.tif"));
        }
        let options = import::Options { overwrite: true, ..import::Options::default() };
        import::import(stores, &folder.join("bone.tif"), &input, &options, settings.resources.memory_bytes, |_, _| {})
            .await?;
    }
    let text = JOB.replace("bone.zarr", &input);
    write("demo.toml", text.as_bytes())?;
    if !settings.quiet {
        eprintln!("$ voxmill run {} -o {output}", at("demo.toml"));
    }
    run::run(stores, &job, settings).await?;
    Ok(())
}
