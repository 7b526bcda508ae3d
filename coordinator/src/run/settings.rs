//! How a job is run, from the flags: with which memory, by whom, for how much. Nothing of it changes an answer.

use std::sync::Arc;
use std::time::Duration;

use pipeline::plan::MergeSettings;
use pipeline::plan::memory::Resources;
use pipeline::step::PerAxis;
use pipeline::{Error, Result, wire};

use super::{cores, seed};
use crate::cli::{ExecutorName, How, PriceArgs};
use crate::dispatch;
use crate::executor::{self, Function};
use crate::price::{self, Fleet, Prices, Pricing};

/// How to run, parsed.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Memory and threads, of one worker.
    pub resources: Resources,
    /// Where tasks run.
    pub place: Place,
    /// Blocks and segments that were asked for; `block` is resolved when the image is known.
    pub block: Option<PerAxis<usize>>,
    /// Units of a segment.
    pub segment: Option<u64>,
    /// Shape of the label merge.
    pub merge: MergeSettings,
    /// What is paid for, by which prices, and how much of it there may be.
    pub price: Pricing,
    /// Replace another job's answers.
    pub overwrite: bool,
    /// Keep the run's own state.
    pub keep: bool,
    /// Put the labels into the input, too.
    pub into_input: bool,
    /// Tasks of a stage that may fail before the run stops.
    pub failures_most: usize,
    /// Say nothing.
    pub quiet: bool,
}

/// Where tasks run.
#[derive(Clone, Debug)]
pub enum Place {
    /// In this process.
    Local,
    /// In instances of a function.
    Lambda {
        /// The function's name, where one was named.
        name: Option<String>,
        /// Instances at once, where a number was given.
        workers: Option<usize>,
        /// Whether the memory was given.
        memory: bool,
        /// The function, once it has been looked up.
        function: Option<Arc<Function>>,
    },
}

/// Memory of a function that has not been deployed yet.
const FUNCTION_MEMORY: u64 = 2048 << 20;

/// Memory of this process, where none is given.
const MEMORY: u64 = 1 << 30;

/// What the flags say of the price.
fn pricing(flags: &PriceArgs) -> Result<Pricing> {
    let PriceArgs { max_usd, price_region, prices: by_hand, price_arch } = flags;
    if max_usd.is_some_and(|usd| !usd.is_finite() || usd < 0.0) {
        return Err(Error::invalid("--max-usd is an amount of USD, as in 2.50"));
    }
    let mut prices = match (price_region, std::env::var("AWS_REGION")) {
        (Some(region), _) => Prices::of(region, *price_arch)?,
        (None, Ok(region)) => Prices::of(&region, *price_arch).or_else(|_| Prices::of(price::REGION, *price_arch))?,
        (None, Err(_)) => Prices::of(price::REGION, *price_arch)?,
    };
    by_hand.iter().try_for_each(|text| prices.set(text))?;
    Ok(Pricing { prices, region_given: price_region.is_some(), fleet: None, max_usd: *max_usd })
}

impl Settings {
    /// What the flags mean.
    pub(crate) fn of(how: &How) -> Result<Self> {
        let on_lambda = how.executor == ExecutorName::Lambda;
        if how.workers == Some(0) || how.segment == Some(0) || how.range_rows == 0 || how.merge_fanout < 2 {
            return Err(Error::invalid(
                "--workers, --segment and --range-rows are at least 1, --merge-fanout at least 2",
            ));
        }
        let block: Option<PerAxis<usize>> =
            how.block.as_deref().map(|b| b.parse().map_err(|e: Error| e.at("--block"))).transpose()?;
        if block.as_ref().is_some_and(|b| b.values().contains(&0)) {
            return Err(Error::invalid("--block: a block has at least one voxel along each axis"));
        }
        let merge_bytes = how.merge_memory.map(|bytes| bytes.0);
        let merge = MergeSettings { fanout: how.merge_fanout, range_rows: how.range_rows, ..MergeSettings::default() };
        let memory = how.memory.map(|bytes| bytes.0);
        let (place, resources) = if on_lambda {
            let variable = || std::env::var(executor::FUNCTION_VARIABLE).ok().filter(|name| !name.is_empty());
            let name = how.function.clone().or_else(variable);
            let place = Place::Lambda { name, workers: how.workers, memory: memory.is_some(), function: None };
            (place, Resources { merge_bytes, ..wire::resources(memory.unwrap_or(FUNCTION_MEMORY) >> 20) })
        } else if how.function.is_some() {
            return Err(Error::invalid("--function names what --executor lambda calls").hint("add --executor lambda"));
        } else {
            let (memory_bytes, threads) = (memory.unwrap_or(MEMORY), how.workers.unwrap_or_else(cores));
            (Place::Local, Resources { memory_bytes, threads, merge_bytes })
        };
        Ok(Self {
            resources,
            place,
            price: pricing(&how.price)?,
            block,
            segment: how.segment,
            merge,
            overwrite: how.overwrite,
            keep: how.keep,
            into_input: how.into_input,
            failures_most: how.max_failures,
            quiet: how.quiet,
        })
    }

    /// Whether tasks are carried out by this process.
    pub fn is_local(&self) -> bool {
        matches!(self.place, Place::Local)
    }

    /// Threads that this process needs.
    pub fn threads(&self) -> usize {
        match self.place {
            Place::Local => self.resources.threads,
            Place::Lambda { .. } => cores(),
        }
    }

    /// The same, with the function looked up, where one is named.
    ///
    /// # Errors
    /// See [`Function::find`]; Invalid when it has less memory than was given.
    pub async fn looked_up(self) -> Result<Self> {
        let Place::Lambda { name: Some(name), workers, memory, .. } = &self.place else { return Ok(self) };
        let function = dispatch::patiently(seed(), || Function::find(name)).await?;
        let found = Resources { merge_bytes: self.resources.merge_bytes, ..function.resources() };
        if *memory && self.resources.memory_bytes > found.memory_bytes {
            return Err(Error::invalid(format!("--memory is more than the {} MiB of {function}", function.memory_mib))
                .hint("leave --memory out, or deploy the function with a larger MemorySize"));
        }
        let resources = if *memory { self.resources } else { found };
        let place = Place::Lambda {
            name: Some(name.clone()),
            workers: *workers,
            memory: *memory,
            function: Some(Arc::new(function)),
        };
        Ok(Self { resources, place, ..self })
    }

    /// Workers that run side by side, each with the resources of one.
    pub(super) fn workers(&self) -> usize {
        match &self.place {
            Place::Local => 1,
            Place::Lambda { workers, function, .. } => {
                let most = function.as_ref().map_or(UNKNOWN_WORKERS, |function| function.at_once);
                workers.map_or(most, |wanted| wanted.min(most))
            }
        }
    }

    /// What the run is paid by.
    pub(super) fn pricing(&self) -> Pricing {
        /// As long as Lambda lets an attempt take, where nothing is known of the function.
        const TIMEOUT: Duration = Duration::from_secs(15 * 60);
        let mut pricing = self.price.clone();
        if let Place::Lambda { function, .. } = &self.place {
            let (memory_mib, timeout) = match function {
                Some(function) => {
                    pricing = pricing.of_function(&function.region, &function.architecture);
                    (function.memory_mib, function.timeout)
                }
                None => (FUNCTION_MEMORY >> 20, TIMEOUT),
            };
            pricing.fleet = Some(Fleet { memory_mib, instances: self.workers() as u64, timeout });
        }
        pricing
    }

    /// The function that runs tasks, if it is one that does.
    ///
    /// # Errors
    /// Invalid when it is to be a function and none is named.
    pub(super) fn function(&self) -> Result<Option<&Arc<Function>>> {
        match &self.place {
            Place::Local => Ok(None),
            Place::Lambda { function: Some(function), .. } => Ok(Some(function)),
            Place::Lambda { .. } => Err(Error::invalid("--executor lambda calls a function, and none is named")
                .hint("name it with --function or VOXMILL_FUNCTION; infra/README.md says how to deploy it")),
        }
    }
}

/// Instances that are planned for where nothing is known of the function.
const UNKNOWN_WORKERS: usize = 100;
