//! Each command in a few lines: what was typed becomes what is meant, and the work is done elsewhere.

use std::path::Path;

use clap::CommandFactory;

use pipeline::array::{GroupKind, Pick};
use pipeline::job::{Job, Write, schema, steps_from_line};
use pipeline::plan::memory::Resources;
use pipeline::step::help_steps;
use pipeline::store::Stores;
use pipeline::{Error, Result};

use crate::cli::{Cli, Command, Export, Import, JobArgs, Picked, Pyramid, Stored, Written};
use crate::exit::Stop;
use crate::import::{self, Raw, Reading, VoxelSize};
use crate::progress::Progress;
use crate::run::{self, Settings};
use crate::runtime::{complete, complete_on_disks};
use crate::table::{self, Format, TableFile};
use crate::{credentials, demo, dot, export, info, pyramid, replay, report, slice, units, verify};

/// Carries out a command.
///
/// # Errors
/// What the command failed with, or that it was interrupted.
pub fn execute(cli: Cli) -> Result<(), Stop> {
    let stores = &credentials::stores();
    match cli.command {
        Command::Demo { folder, how } => {
            let settings = Settings::of(&how)?;
            complete(settings.threads(), async { demo::demo(stores, &folder, &settings.looked_up().await?).await })
        }
        Command::Import(args) => complete(run::cores(), import_file(stores, &args)),
        Command::Info { url, pick, json } => {
            let info = complete(1, info::info(stores, &url, &pick.into()))?;
            if json { print_json(&info) } else { print(&info) }
        }
        Command::Plan { job, how, json, dot, calibrate } => {
            let (job, settings) = (job_of(&job)?, Settings::of(&how)?);
            let threads = if calibrate { settings.threads() } else { 1 };
            let (planned, estimate) =
                complete(threads, async { run::priced(stores, &job, &settings.looked_up().await?, calibrate).await })?;
            match (json, dot) {
                (true, _) => print_json(&report::plan_json(&planned, &estimate)),
                (_, true) => print(&dot::stages(&planned.plan)),
                _ => print(&report::plan_text(&planned, &estimate)),
            }
        }
        Command::Run { job, how, json } => {
            let (job, settings) = (job_of(&job)?, Settings::of(&how)?);
            let (on_disks, threads) = (settings.is_local() && run::is_on_disks(&job), settings.threads());
            let work = async { run::run(stores, &job, &settings.looked_up().await?).await };
            let summary = if on_disks { complete_on_disks(work)? } else { complete(threads, work)? };
            if json { print_json(&summary) } else { Ok(()) }
        }
        Command::Status { output, json } => {
            let status = complete(1, report::status(stores, &output))?;
            if json { print_json(&status) } else { print(&status) }
        }
        Command::Verify { output, windows, seed, memory, json, quiet } => {
            let options = verify::Options { windows, seed, memory_bytes: memory.0 };
            let report = complete(run::cores(), verify::verify(stores, &output, &options, &Progress::new(quiet)))?;
            if json {
                print_json(&report)?;
            } else if !quiet {
                eprintln!("{report}");
            }
            Ok(report.verdict()?)
        }
        Command::Replay { output, task, to, workers, memory, json } => {
            let threads = workers.unwrap_or_else(run::cores).max(1);
            let resources = Resources { memory_bytes: memory.0, threads, merge_bytes: None };
            let replayed = complete(threads, replay::replay(stores, &output, task, to, &resources))?;
            if json {
                print_json(&replayed)?;
            } else {
                eprintln!("{replayed}");
            }
            Ok(replayed.verdict()?)
        }
        Command::Clean { output } => {
            let done = complete(1, run::clean(stores, &output))?;
            eprintln!("{done}");
            Ok(())
        }
        Command::Slice { url, axis, at, output, window, labels, pick } => {
            let window = window.as_deref().map(str::parse).transpose()?;
            let view = slice::View { axis: axis.parse()?, at, window, labels };
            let made = complete(1, slice::slice(stores, &url, &pick.into(), &view, &output))?;
            eprintln!("{}: {} x {} pixels, {}", output.display(), made.width, made.height, made.shading);
            Ok(())
        }
        Command::Pyramid(args) => complete(args.workers.unwrap_or_else(run::cores), add_levels(stores, &args)),
        Command::Export(args) => complete(2, export_file(stores, &args)),
        Command::Table { output, csv, json, name, to } => {
            let format = match (csv, json) {
                (true, _) => Format::Csv,
                (_, true) => Format::JsonLines,
                _ => Format::Head,
            };
            complete(1, async {
                match to {
                    Some(path) => {
                        let mut file = TableFile::create(&path)?;
                        let written = table::table(stores, &output, &name, format, &mut file).await;
                        file.finish(written)
                    }
                    None => {
                        let mut stdout = std::io::BufWriter::new(std::io::stdout());
                        table::table(stores, &output, &name, format, &mut stdout).await
                    }
                }
            })
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "voxmill", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
        Command::Schema => print_json(&schema()),
        Command::Help { topic } => help(topic.as_deref()),
    }
}

fn help(topic: Option<&str>) -> Result<(), Stop> {
    let mut program = Cli::command();
    match topic {
        None => print(&program.render_long_help()),
        Some("steps") => print(&help_steps()),
        Some(topic) => {
            let no_such =
                || Error::invalid(format!("there is no command `{topic}`")).hint("`voxmill help` lists the commands");
            let command = program.find_subcommand_mut(topic).ok_or_else(no_such)?;
            print(&command.render_long_help())
        }
    }
}

#[allow(clippy::print_stdout, reason = "this is the place where data goes to stdout")]
fn print(text: &impl std::fmt::Display) -> Result<(), Stop> {
    println!("{}", text.to_string().trim_end());
    Ok(())
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Stop> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::internal(format!("no JSON: {e}")))?;
    print(&text)
}

impl From<Picked> for Pick {
    fn from(picked: Picked) -> Self {
        Self { level: picked.level, channel: picked.channel, time: picked.time, series: picked.series }
    }
}

/// The job that was meant: read from a file where one is named, then overridden by flags.
fn job_of(args: &JobArgs) -> Result<Job> {
    let is_job =
        ["toml", "json"].iter().any(|e| Path::new(&args.job).extension().is_some_and(|x| x.eq_ignore_ascii_case(e)));
    let mut job = if is_job {
        let text = std::fs::read_to_string(&args.job)
            .map_err(|e| Error::invalid(format!("the job file {} can't be read: {e}", args.job)))?;
        Job::from_path_text(&args.job, &text)?
    } else {
        Job::new(args.job.clone())
    };
    if let Some(line) = &args.steps {
        job.steps = steps_from_line(line)?;
    }
    if let Some(region) = &args.region {
        job.region = Some(region.parse().map_err(|e: Error| e.at("--region"))?);
    }
    job.mask = args.mask.clone().or(job.mask);
    job.intensity = args.intensity.clone().or(job.intensity);
    if let Some(name) = &args.histogram {
        job.histogram = name.clone().into();
    }
    if let Some(percentiles) = &args.percentiles {
        job.percentiles = Some(percentiles.parse().map_err(|e: Error| e.at("--percentiles"))?);
    }
    job.output = args.output.clone().or(job.output);
    job.level = args.pick.level.unwrap_or(job.level);
    job.channel = args.pick.channel.or(job.channel);
    job.time = args.pick.time.or(job.time);
    job.series = args.pick.series.or(job.series);
    override_write(&mut job.write, &args.write)?;
    Ok(job)
}

fn override_write(write: &mut Write, flags: &Written) -> Result<()> {
    if let Some(chunks) = &flags.stored.chunks {
        write.chunks = chunks.parse().map_err(|e: Error| e.at("--chunks"))?;
    }
    if let Some(shards) = &flags.stored.shards {
        write.shards = shards.parse().map_err(|e: Error| e.at("--shards"))?;
    }
    write.codec = flags.stored.codec.clone().or(write.codec.take());
    if let Some(levels) = &flags.levels {
        write.levels = levels.parse().map_err(|e: Error| e.at("--levels"))?;
    }
    if let Some(ome) = &flags.ome {
        write.ome = ome.parse().map_err(|e: Error| e.at("--ome"))?;
    }
    Ok(())
}

async fn add_levels(stores: &Stores, args: &Pyramid) -> Result<(), Stop> {
    let threads = args.workers.unwrap_or_else(run::cores);
    if threads == 0 {
        return Err(Error::invalid("--workers is at least 1").into());
    }
    let Stored { chunks, shards, codec } = &args.stored;
    let options = pyramid::Options {
        chunks: chunks.as_deref().map(str::parse).transpose().map_err(|e: Error| e.at("--chunks"))?,
        shards: shards.as_deref().map(str::parse).transpose().map_err(|e: Error| e.at("--shards"))?,
        codec: codec.clone(),
        levels: args.levels.parse().map_err(|e: Error| e.at("--levels"))?,
        kind: match (args.labels, args.image) {
            (true, _) => Some(GroupKind::Labels),
            (_, true) => Some(GroupKind::Image),
            _ => None,
        },
        overwrite: args.overwrite,
        resources: Resources { memory_bytes: args.memory.0, threads, merge_bytes: None },
    };
    let progress = Progress::new(args.quiet);
    let work = pyramid::pyramid(stores, &args.url, &options, |done, all| progress.of_one("pyramid", done, all));
    let made = run::until_interrupted(work, "the image is as it was; run the same command again").await?;
    progress.stage_done();
    progress.say(&pyramid::told(&made));
    Ok(())
}

async fn export_file(stores: &Stores, args: &Export) -> Result<(), Stop> {
    let options = export::Options {
        pick: args.pick.clone().into(),
        region: args.region.as_deref().map(|region| region.parse().map_err(|e: Error| e.at("--region"))).transpose()?,
        compress: args.compress,
        overwrite: args.overwrite,
        memory_bytes: args.memory.0,
    };
    let progress = Progress::new(args.quiet);
    let export =
        export::export(stores, &args.url, &args.output, &options, |done, all| progress.of_one("export", done, all));
    let exported = run::until_interrupted(export, "nothing was left behind; run the same command again").await?;
    progress.stage_done();
    let (shape, bytes) = (units::shape(&exported.shape), units::Bytes(exported.bytes));
    progress.say(&format!("{}: {shape} {}, {bytes}", args.output.display(), exported.dtype));
    Ok(())
}

async fn import_file(stores: &Stores, args: &Import) -> Result<(), Stop> {
    let mut write = Write::default();
    override_write(&mut write, &args.write)?;
    let voxel_size = args.voxel_size.as_deref().map(str::parse::<VoxelSize>).transpose()?;
    let raw = match (&args.shape, &args.dtype) {
        (Some(shape), Some(dtype)) => {
            Some(Raw::from_flags(shape, dtype, args.order.as_deref(), args.offset.unwrap_or(0))?)
        }
        _ => None,
    };
    let reading = Reading { channel: args.channel, time: args.time, member: args.member.clone(), raw };
    let options = import::Options { write, voxel_size, reading, overwrite: args.overwrite };
    let progress = Progress::new(args.quiet);
    // The program itself takes some 10 MiB, and more once it has several threads.
    let memory_bytes = args.memory.0 - (args.memory.0 / 4).min(16 << 20);
    let import = import::import(stores, &args.source, &args.destination, &options, memory_bytes, |done, all| {
        progress.of_one("import", done, all);
    });
    let imported = run::until_interrupted(import, "nothing was left behind; run the same command again").await?;
    progress.stage_done();
    for note in &imported.notes {
        progress.say(&format!("note: {note}"));
    }
    let extent = imported.array.extent;
    let shape: Vec<usize> = extent.axes().map(|a| extent.shape[a]).collect();
    let (shape, bytes) = (units::shape(&shape), units::Bytes(imported.bytes_written));
    progress.say(&format!("{}: {shape} {}, {bytes}", imported.url, imported.array.dtype));
    Ok(())
}
