//! Progress of a run: one bar per stage on a terminal, plain lines elsewhere, nothing when quiet.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::units;

/// Who hears what.
enum Way {
    Quiet,
    /// A line when a stage starts to take long, and one when it ends.
    Lines,
    Bars,
}

/// Tells how far a run is.
pub struct Progress {
    way: Way,
    stage: Mutex<Option<Stage>>,
}

struct Stage {
    name: String,
    units: u64,
    done: u64,
    /// Voxels per unit on average; 0 where a stage sees none.
    voxels_per_unit: f64,
    started: Instant,
    /// Units that were there before this run, which say nothing about its speed.
    resumed: u64,
    said: Instant,
    bar: Option<ProgressBar>,
}

/// Between two lines about the same stage.
const LINE_EVERY: Duration = Duration::from_secs(30);

impl Progress {
    /// Bars on a terminal, else lines; nothing with `quiet`.
    pub fn new(quiet: bool) -> Self {
        let way = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Way::Quiet,
            (false, true) => Way::Bars,
            (false, false) => Way::Lines,
        };
        Self { way, stage: Mutex::new(None) }
    }

    /// A stage of `units` units starts, which looks at `voxels` voxels in all.
    pub fn stage(&self, name: &str, units: u64, voxels: u64) {
        let bar = matches!(self.way, Way::Bars).then(|| {
            let bar = ProgressBar::new(units);
            let template = "{prefix:>24} [{bar:32}] {pos}/{len} {msg} {eta} left";
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.progress_chars("=> "));
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        let (started, said) = (Instant::now(), Instant::now());
        let voxels_per_unit = voxels as f64 / units.max(1) as f64;
        let stage = Stage { name: name.to_owned(), units, done: 0, voxels_per_unit, started, resumed: 0, said, bar };
        if let Ok(mut current) = self.stage.lock() {
            *current = Some(stage);
        }
    }

    /// A unit of the stage is done.
    pub fn unit_done(&self, _unit: u64) {
        self.advance(1, false);
    }

    /// Units of the stage are done.
    pub fn units_done(&self, units: u64) {
        self.advance(units, false);
    }

    /// Units of the stage were done by an earlier run.
    pub fn resumed(&self, units: u64) {
        self.advance(units, true);
    }

    /// One thing with no stages before or after it: `done` of `all` voxels.
    pub fn of_one(&self, name: &str, done: u64, all: u64) {
        self.so_far(name, done, all, all);
    }

    /// The same for what has no voxels: `done` of `all` things.
    pub fn of_some(&self, name: &str, done: u64, all: u64) {
        self.so_far(name, done, all, 0);
    }

    fn so_far(&self, name: &str, done: u64, all: u64, voxels: u64) {
        let starts = self.stage.lock().is_ok_and(|stage| stage.is_none());
        if starts {
            self.stage(name, all, voxels);
        }
        let before = self.stage.lock().ok().and_then(|stage| stage.as_ref().map(|s| s.done)).unwrap_or(0);
        self.advance(done.saturating_sub(before), false);
    }

    fn advance(&self, units: u64, resumed: bool) {
        let Ok(mut current) = self.stage.lock() else { return };
        let Some(stage) = current.as_mut() else { return };
        stage.done += units;
        stage.resumed += if resumed { units } else { 0 };
        match (&self.way, &stage.bar) {
            (Way::Bars, Some(bar)) => {
                bar.set_position(stage.done);
                bar.set_message(stage.rate());
            }
            (Way::Lines, _) if stage.said.elapsed() > LINE_EVERY => {
                stage.said = Instant::now();
                eprintln!("{}: {} of {} {}", stage.name, stage.done, stage.units, stage.rate());
            }
            _ => {}
        }
    }

    /// The stage is over.
    pub fn stage_done(&self) {
        let Ok(mut current) = self.stage.lock() else { return };
        let Some(stage) = current.take() else { return };
        if let Some(bar) = &stage.bar {
            bar.finish_and_clear();
        }
        if !matches!(self.way, Way::Quiet) {
            let seconds = units::duration(stage.started.elapsed().as_secs_f64());
            eprintln!("{:>24}  {} in {seconds} {}", stage.name, stage.units, stage.rate());
        }
    }

    /// Something people should know, whatever is on the screen.
    pub fn say(&self, line: &str) {
        if matches!(self.way, Way::Quiet) {
            return;
        }
        let bar = self.stage.lock().ok().and_then(|s| s.as_ref().and_then(|s| s.bar.clone()));
        match bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }
}

impl Stage {
    fn rate(&self) -> String {
        let voxels = (self.done - self.resumed) as f64 * self.voxels_per_unit;
        if voxels == 0.0 { String::new() } else { units::rate(voxels as u64, self.started.elapsed().as_secs_f64()) }
    }
}
