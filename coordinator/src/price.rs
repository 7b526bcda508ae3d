//! What a run costs: before it, during it, and where it must stop.
//!
//! `table` has the prices, dated; `estimate` what a plan will come to, as a range; `calibrate` a short sample that makes
//! the range narrower; `budget` what has been spent and what is under way at its worst. What a plan asks of the store is
//! arithmetic of the crate `pipeline`; here it meets money and the clock. `docs/price.md` says how the estimate is made.

mod budget;
mod calibrate;
mod estimate;
mod table;

use std::time::Duration;

use pipeline::wire::MIB_PER_CPU;
use serde::Serialize;

pub use budget::{Budget, Spent};
pub use calibrate::Sample;
pub(crate) use calibrate::calibrate;
pub use estimate::{Between, Estimate, Line};
pub(crate) use estimate::{is_charged, requests_text, span, usd};
pub(crate) use table::REGION;
pub use table::{Arch, Prices};

/// What a run is paid by, and how much it may cost.
#[derive(Clone, Debug, Default)]
pub struct Pricing {
    /// The prices.
    pub prices: Prices,
    /// Whether their region was named; else it is the function's.
    pub region_given: bool,
    /// What tasks run on, where they don't run here.
    pub fleet: Option<Fleet>,
    /// No attempt is sent that could bring a run beyond it, in USD.
    pub max_usd: Option<f64>,
}

impl Pricing {
    /// By the prices of where a function is, and of what it runs on.
    pub(crate) fn of_function(self, region: &str, architecture: &str) -> Self {
        let arch = if architecture == "arm64" { Arch::Arm } else { Arch::X86 };
        let region = if self.region_given { self.prices.region.clone() } else { region.to_owned() };
        Self { prices: self.prices.elsewhere(&region, arch), ..self }
    }
}

/// The instances of a function as far as their price goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Fleet {
    /// Memory that is paid for, in MiB.
    pub memory_mib: u64,
    /// Instances at once, at most.
    pub instances: u64,
    /// An attempt is ended after it.
    pub timeout: Duration,
}

impl Fleet {
    /// Cores it has: a share of them that goes with its memory.
    pub fn cores(&self) -> f64 {
        self.memory_mib as f64 / MIB_PER_CPU as f64
    }

    /// What so many milliseconds of it come to.
    pub fn gb_seconds(&self, billed_ms: u64) -> f64 {
        billed_ms as f64 / 1000.0 * self.memory_mib as f64 / 1024.0
    }
}
