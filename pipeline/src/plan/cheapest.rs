//! The choice of blocks where requests are paid for: of all that fit into memory and keep every thread busy, those of
//! which the whole run costs least.
//!
//! A small block reads more of its neighbours and leaves more objects between the stages, and writing one of those costs
//! as much as computing for a sixth of a second. A large one leaves fewer blocks than there are threads.

use super::build::{self, Wishes};
use super::memory::{self, Resources};
use super::requests::{Objects, PlanRequests, Terms};
use super::{Plan, lay};
use crate::Result;
use crate::grid::Grid;

/// Seconds of a core that cost as much as a write, a read, and a task: by list prices of 2026, 0.000005, 0.0000004 and
/// 0.0000002 USD, where a core for a second is 1.73 GB-seconds at 0.0000166667 USD. A task takes its own time, too.
const PUT_SECONDS: f64 = 0.174;
const GET_SECONDS: f64 = 0.0139;
const TASK_SECONDS: f64 = 0.1;
/// Seconds that a byte takes on its way to one core, which waits for it or computes meanwhile: half of that counts.
const BYTE_SECONDS: f64 = 0.5 / 75e6;
/// Objects are expected to be as dense as that, where there are any.
const OBJECTS: Objects = Objects::OneIn(1000);
/// Larger blocks take minutes each, and are lost when a worker is.
const VOXELS_MOST: usize = 1 << 28;

/// The block of which a run of this plan costs least.
///
/// # Errors
/// Invalid when no block fits into memory.
pub(super) fn block(plan: &Plan, unit: [usize; 3], wishes: &Wishes, resources: &Resources) -> Result<[usize; 3]> {
    let candidate = |block: [usize; 3]| {
        let mut candidate = Plan { grid: Grid { extent: plan.extent, block }, ..plan.clone() };
        lay::stages(&mut candidate, &Wishes { earlier: None, block: None, ..wishes.clone() }, resources);
        let projection = memory::project(&candidate, resources)?;
        let cost = cost(&candidate, &projection, wishes);
        Ok((projection.keeps_threads_busy(), cost))
    };
    let mut block = build::smallest(plan, unit);
    let (_, cost) = candidate(block).map_err(|e| build::too_large(plan, unit, e))?;
    let mut best = (cost, block);
    loop {
        let larger = build::larger(plan, unit, block, wishes, resources, VOXELS_MOST);
        let grown = larger.into_iter().find_map(|larger| {
            let (busy, cost) = candidate(larger).ok()?;
            busy.then_some((cost, larger))
        });
        match grown {
            Some(larger) => {
                block = larger.1;
                // A little is not worth a larger block, which takes longer to be done again.
                best = if larger.0 < 0.99 * best.0 { larger } else { best };
            }
            None => return Ok(best.1),
        }
    }
}

/// What a run of a plan costs, in seconds of a core.
fn cost(plan: &Plan, projection: &memory::Projection, wishes: &Wishes) -> f64 {
    let terms = Terms { processes: wishes.workers.unwrap_or(1).max(1) as u64, objects: OBJECTS };
    let asked = PlanRequests::of(plan, projection, terms);
    let middle = |low: u64, high: u64| (low as f64 + high as f64) / 2.0;
    let all = asked.total();
    let units = asked.stages.iter().enumerate();
    let computing: f64 = units.map(|(stage, of)| plan.cpu_seconds(stage, of.units.high)).sum();
    let bytes = middle(all.bytes_in.low, all.bytes_in.high) + middle(all.bytes_out.low, all.bytes_out.high);
    computing
        + middle(all.gets.low, all.gets.high) * GET_SECONDS
        + middle(all.puts.low, all.puts.high) * PUT_SECONDS
        + middle(asked.tasks().low, asked.tasks().high) * TASK_SECONDS
        + bytes * BYTE_SECONDS
}
