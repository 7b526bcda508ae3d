//! What a plan will come to: invocations, GB-seconds, requests, logs and dollars, each as a range.
//!
//! A task takes as long as its cores are busy or its bytes are on their way, whichever is longer, and some time to begin
//! and to end. Both ends of the range are guesses that are meant to hold; a sample moves them together.

use std::fmt::{self, Write as _};

use pipeline::plan::memory::Projection;
use pipeline::plan::requests::{Asked, Objects, PlanRequests, Span, Terms};
use pipeline::plan::{Plan, StageKind};
use serde::{Deserialize, Serialize};

use super::{Fleet, Pricing, Sample};
use crate::units::{self, Bytes};

/// Bytes a second that one instance moves from and to S3: what its network gives for long.
const BYTES_PER_SECOND: f64 = 75e6;
/// What packing leaves of bytes, at best; at worst all.
const PACKED_LEAST: f64 = 0.25;
/// Seconds a request adds to a task, several being under way at once.
const REQUEST_SECONDS: Between = Between { low: 0.001, high: 0.004 };
/// Seconds of a task beside its work: the record before it, the receipt after it, the answer.
const TASK_SECONDS: Between = Between { low: 0.03, high: 0.25 };
/// Seconds of a cold start, which are paid for.
const START_SECONDS: Between = Between { low: 0.1, high: 1.0 };
/// How far the plan's rates are off, without a sample and with one.
const RATES: Between = Between { low: 0.5, high: 2.0 };
const RATES_SAMPLED: Between = Between { low: 0.8, high: 1.4 };
/// Bytes of logs of a task: what Lambda writes, and a line of ours or some.
const LOG_BYTES: Between = Between { low: 700.0, high: 3000.0 };
/// One object in so many voxels is as dense as we expect them; a sample knows better.
const VOXELS_PER_OBJECT: u64 = 1000;
/// Seconds between two signs of life of the coordinator in a bucket, which are a write and a listing, and between two
/// checkpoints.
const BEAT_SECONDS: f64 = 5.0;

/// A number between two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Between {
    /// At least.
    pub low: f64,
    /// At most.
    pub high: f64,
}

impl Between {
    fn of(span: Span) -> Self {
        Self { low: span.low as f64, high: span.high as f64 }
    }

    fn times(self, low: f64, high: f64) -> Self {
        Self { low: self.low * low, high: self.high * high }
    }

    fn by(self, other: Self) -> Self {
        self.times(other.low, other.high)
    }

    fn plus(self, other: Self) -> Self {
        Self { low: self.low + other.low, high: self.high + other.high }
    }

    fn or_more(self, other: Self) -> Self {
        Self { low: self.low.max(other.low), high: self.high.max(other.high) }
    }
}

/// What one thing that is paid for comes to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// What.
    pub item: String,
    /// How much of it.
    pub amount: Between,
    /// For one, in USD.
    pub price: f64,
    /// For all, in USD.
    pub usd: Between,
}

impl Line {
    fn new(item: &str, amount: Between, price: f64) -> Self {
        Self { item: item.to_owned(), amount, price, usd: amount.times(price, price) }
    }
}

/// What a run will come to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Region of the prices.
    pub region: String,
    /// When those were looked up.
    pub dated: String,
    /// Tasks that are sent, without repetitions.
    pub invocations: Span,
    /// Seconds that cores are busy on this machine, by rates.
    pub cpu_seconds: Between,
    /// Memory times time of the function; none where tasks run here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gb_seconds: Option<Between>,
    /// Requests to stores that charge for them.
    pub requests: Asked,
    /// Bytes of logs.
    pub log_bytes: Between,
    /// Thing by thing.
    pub lines: Vec<Line>,
    /// Altogether.
    pub usd: Between,
    /// What it was narrowed by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<Sample>,
}

/// Whether what a stage takes goes with its voxels, which a sample can tell, and not with its rows, which it can't.
pub(super) fn goes_over_voxels(plan: &Plan, stage: usize) -> bool {
    matches!(plan.stages[stage].kind, StageKind::Map(_) | StageKind::Relabel { .. } | StageKind::Level { .. })
}

/// Whether requests to a place are paid for by this table.
pub(crate) fn is_charged(url: &str) -> bool {
    url.split_once("://").is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("s3"))
}

impl Estimate {
    /// What a plan that is run from its start will come to, with the answers at `output`.
    pub fn of(plan: &Plan, projection: &Projection, output: &str, pricing: &Pricing, sample: Option<&Sample>) -> Self {
        let (prices, fleet) = (&pricing.prices, pricing.fleet);
        let objects = sample.and_then(|sample| sample.voxels_per_object).unwrap_or(VOXELS_PER_OBJECT);
        let terms = Terms { processes: fleet.map_or(1, |f| f.instances), objects: Objects::OneIn(objects) };
        let asked = PlanRequests::of(plan, projection, terms);
        let factor = sample.map_or(1.0, |sample| sample.factor);
        let sampled = if sample.is_some() { RATES_SAMPLED.times(factor, factor) } else { RATES };

        let (mut cpu, mut billed) = (Between::default(), Between::default());
        for (stage, asked) in asked.stages.iter().enumerate() {
            let seconds = |units| plan.cpu_seconds(stage, units);
            let rates = if goes_over_voxels(plan, stage) { sampled } else { RATES };
            let busy = Between { low: seconds(asked.units.low), high: seconds(asked.units.high) }.by(rates);
            cpu = cpu.plus(busy);
            if let Some(fleet) = fleet {
                let at_once = projection.stages[stage].limits.at_once as f64;
                billed = billed.plus(billed_seconds(fleet, at_once, busy, asked.input + asked.output, asked.tasks()));
            }
        }
        if let Some(fleet) = fleet {
            let started = Span { low: 1, high: fleet.instances.min(asked.tasks().high) };
            billed = billed.plus(Between::of(started).by(START_SECONDS));
        }
        let gb = |fleet: Fleet| billed.times(fleet.gb_seconds(1000), fleet.gb_seconds(1000));
        let gb_seconds = fleet.map(gb);

        // What a function reads and writes lies in buckets, or will.
        let charged = |url: &str| fleet.is_some() || is_charged(url);
        let mut requests = Asked::default();
        if charged(&plan.input.url) {
            requests += asked.stages.iter().map(|stage| stage.input).sum();
        }
        if charged(output) {
            requests += asked.stages.iter().map(|stage| stage.output).sum::<Asked>() + asked.coordinator();
            let takes = match fleet {
                Some(fleet) => billed.high / fleet.instances.max(1) as f64,
                None => cpu.high,
            };
            let beats = Span::up_to((takes / BEAT_SECONDS) as u64 + 4);
            requests += Asked { puts: beats * 2, lists: beats, ..Asked::default() };
        }
        let tasks = asked.tasks();
        let log_bytes = if fleet.is_some() { Between::of(tasks).by(LOG_BYTES) } else { Between::default() };

        let mut lines = Vec::new();
        if let Some(gb_seconds) = gb_seconds {
            lines.push(Line::new("invocations", Between::of(tasks), prices.invocation));
            lines.push(Line::new("GB-seconds", gb_seconds, prices.gb_second));
        }
        if requests != Asked::default() {
            lines.push(Line::new("GET requests", Between::of(requests.gets), prices.get));
            lines.push(Line::new("PUT and LIST requests", Between::of(requests.puts + requests.lists), prices.put));
        }
        if fleet.is_some() {
            lines.push(Line::new("GB of logs", log_bytes.times(1e-9, 1e-9), prices.logs_gb));
        }
        let usd = lines.iter().fold(Between::default(), |sum, line| sum.plus(line.usd));
        let (region, dated) = (prices.region.clone(), prices.dated.clone());
        let sample = sample.cloned();
        Self {
            region,
            dated,
            invocations: tasks,
            cpu_seconds: cpu,
            gb_seconds,
            requests,
            log_bytes,
            lines,
            usd,
            sample,
        }
    }

    /// In one line, before a run; with a word of a limit that it may not get by with.
    pub(crate) fn in_a_line(&self, max_usd: Option<f64>) -> String {
        let (low, high) = (usd(self.usd.low), usd(self.usd.high));
        let line = format!("price      {low} to {high}, by list prices of {} in {}", self.dated, self.region);
        match max_usd {
            Some(most) if most < self.usd.high => format!("{line}; it stops before --max-usd {}", usd(most)),
            _ => line,
        }
    }

    /// Whether anything of it is paid for.
    pub fn is_charged(&self) -> bool {
        !self.lines.is_empty()
    }
}

/// Seconds of the function that a stage takes, of all its instances together.
fn billed_seconds(fleet: Fleet, at_once: f64, busy: Between, asked: Asked, tasks: Span) -> Between {
    let cores = fleet.cores().min(at_once).max(1e-3);
    let computing = busy.times(1.0 / cores, 1.0 / cores);
    let bytes = Between::of(Span::exact(asked.bytes_in.high) + asked.bytes_out.high);
    let moving = bytes.times(PACKED_LEAST / BYTES_PER_SECOND, 1.0 / BYTES_PER_SECOND);
    let waiting = Between::of(asked.gets + asked.puts).by(REQUEST_SECONDS);
    computing.or_more(moving.plus(waiting)).plus(Between::of(tasks).by(TASK_SECONDS))
}

/// An amount of money, with as many digits as say something.
pub(crate) fn usd(amount: f64) -> String {
    match amount {
        a if a >= 100.0 => format!("${a:.0}"),
        a if a >= 1.0 => format!("${a:.2}"),
        a if a >= 0.01 => format!("${a:.3}"),
        a => format!("${a:.5}"),
    }
}

/// A whole number, or the two it lies between.
pub(crate) fn span(span: Span) -> String {
    match span.is_exact() {
        true => units::count(span.low),
        false => format!("{} to {}", units::count(span.low), units::count(span.high)),
    }
}

fn between(between: Between) -> String {
    let number = |n: f64| if n >= 10.0 { units::count(n.round() as u64) } else { format!("{n:.3}") };
    match number(between.low) == number(between.high) {
        true => number(between.low),
        false => format!("{} to {}", number(between.low), number(between.high)),
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_charged() {
            return write!(f, "{:<10} none: everything runs on this machine", "price");
        }
        let (low, high) = (usd(self.usd.low), usd(self.usd.high));
        writeln!(f, "{:<10} {low} to {high}, by list prices of {} in {}", "price", self.dated, self.region)?;
        for line in &self.lines {
            let (low, high) = (usd(line.usd.low), usd(line.usd.high));
            writeln!(f, "  {:<22} {:>28}   {low} to {high}", line.item, between(line.amount))?;
        }
        let mut last = String::new();
        // Writing to a string does not fail.
        let _ = match &self.sample {
            Some(sample) => write!(last, "  {sample}"),
            None => write!(last, "  by rates of a machine of today; --calibrate tries a part of the image first"),
        };
        f.write_str(&last)
    }
}

/// Requests in a line.
pub(crate) fn requests_text(asked: &Asked) -> String {
    let mut text = format!("{} GET, {} PUT, {} LIST", span(asked.gets), span(asked.puts), span(asked.lists));
    let bytes = asked.bytes_in.high.saturating_add(asked.bytes_out.high);
    // Writing to a string does not fail.
    let _ = write!(text, "; at most {} moved", Bytes(bytes));
    text
}

#[cfg(test)]
mod tests;
