//! The decisions between the stages. Each reads the receipts of the stage that has ended and what was decided before
//! it, and writes the description of the next: its size, and whatever its tasks need to know. The coordinator decides
//! nothing; it reads a number of units and dispatches.

use std::collections::BTreeMap;

use super::{Answer, Receipt, Worker};
use crate::count;
use crate::plan::{Count, Leaf, Pass, Round, Rows, StageKind, TableId};
use crate::reduce::{Contribution, rank, table};
use crate::scratch::{Reader, Tag, Writer, decode_u64s};
use crate::sources::Versions;
use crate::state::{Ranked, State};
use crate::{Error, Result, layout, stale};

/// Ends a stage of `units` units.
pub(super) async fn advance(worker: &Worker, stage: usize, units: u64) -> Result<Answer> {
    let (plan, store) = (&worker.plan, &worker.store);
    let fingerprint = &plan.stages[stage].fingerprint;
    let before = worker.state_before(stage).await?;
    let mut state = State::clone(&before);

    let receipts = receipts(worker, stage, units).await?;
    // Every pass over the input meets the same ones.
    state.missing_chunks = state.missing_chunks.max(receipts.iter().map(|r| r.missing_chunks).sum());

    note_versions(worker, stage, &receipts).await?;

    if let StageKind::Map(pass) = &plan.stages[stage].kind
        && pass.counts().next().is_some()
    {
        let keys: Vec<String> = receipts.iter().map(|r| layout::tally(fingerprint, r.first, r.end)).collect();
        let joined = count::join(store, plan, pass, &before, &keys).await?;
        let mut out = Writer::create(store, &layout::digest(fingerprint)).await?;
        for (i, partial) in joined.iter().enumerate() {
            out.section(Tag::Tally, i as u64, &partial.encode()).await?;
        }
        out.finish().await?;
        count::decide(store, plan, stage, pass, &mut state).await?;
    }
    if let StageKind::Rank(table) = plan.stages[stage].kind {
        number(worker, stage, table, &receipts, &mut state).await?;
    }
    state.units = units_of(worker, stage + 1, &mut state).await?;

    state.create(store, plan, stage).await?;
    Ok(Answer::Advanced(Box::new(state)))
}

/// Sees that all segments of this stage and of those before it read the same versions of the input.
async fn note_versions(worker: &Worker, stage: usize, receipts: &[Receipt]) -> Result<()> {
    let Worker { plan, store, sources, .. } = worker;
    let mut read = Versions::new();
    for receipt in receipts {
        stale::join(&mut read, &receipt.read, sources)?;
    }
    if read.is_empty() {
        return Ok(());
    }
    let fingerprint = &plan.stages[stage].fingerprint;
    stale::note(store, fingerprint, &read).await?;
    for earlier in plan.stages[..stage].iter().filter(|earlier| matches!(earlier.kind, StageKind::Map(_))) {
        if let Some(earlier) = stale::noted(store, &earlier.fingerprint).await? {
            stale::join(&mut read, &earlier, sources)?;
        }
    }
    Ok(())
}

/// Units of a stage, which is about to start.
async fn units_of(worker: &Worker, stage: usize, state: &mut State) -> Result<u64> {
    let plan = &worker.plan;
    let Some(next) = plan.stages.get(stage) else { return Ok(0) };
    Ok(match &next.kind {
        StageKind::Map(pass) if is_idle(pass, state) => 0,
        StageKind::Map(_) | StageKind::Seam { .. } | StageKind::Relabel { .. } => plan.grid.units(),
        StageKind::Up { level, .. } | StageKind::Down { level, .. } => plan.tree().units(*level),
        StageKind::Rank(table) => {
            let contributions = contributions(worker, *table).await?;
            let cuts = rank::cut(&contributions, plan.merge.range_rows);
            let key = layout::sources(&plan.stages[stage].fingerprint);
            rank::write_sources(&worker.store, &key, &cuts, &contributions).await?;
            let units = cuts.len() as u64;
            state.ranked.push(Ranked { of: *table, cuts, bases: Vec::new(), median_voxels: None });
            units
        }
        StageKind::Table(id) => table::units(plan, *id, state.rows(*id).unwrap_or(0)),
        StageKind::Level { image, level } => plan.level_objects(*image, *level).unwrap_or(0),
        StageKind::Publish => 1,
    })
}

/// A later round of counting that has nothing to look for.
fn is_idle(pass: &Pass, state: &State) -> bool {
    !pass.leaves.iter().any(|leaf| match leaf {
        Leaf::Count(Count { round: Round::Tally, .. }) => true,
        Leaf::Count(Count { round: Round::Bins(_), image }) => state.ranges.iter().any(|(of, _)| of == image),
        Leaf::Count(Count { round: Round::Refine, image }) => state.wanted.iter().any(|wanted| wanted.image == *image),
        _ => true,
    })
}

/// The receipts of a stage that has ended.
async fn receipts(worker: &Worker, stage: usize, units: u64) -> Result<Vec<Receipt>> {
    let (mut receipts, mut next) = (Vec::new(), 0);
    while next < units {
        let receipt = Receipt::read(&worker.store, &worker.plan, stage, next).await?;
        let missing = || {
            // It was there, or the stage would not end: somebody else has been here.
            let url = worker.store.url();
            Error::unavailable(format!("unit {next} of a stage that has ended has no receipt in {url} any more"))
                .hint("something was removed from the run while it ran; run again with --overwrite to compute everything anew")
        };
        let receipt = receipt.ok_or_else(missing)?;
        next = receipt.end;
        receipts.push(receipt);
    }
    Ok(receipts)
}

/// What every block and group left as closed rows of a table.
async fn contributions(worker: &Worker, table: TableId) -> Result<Vec<Contribution>> {
    let plan = &worker.plan;
    let mut contributions = Vec::new();
    for (i, stage) in plan.stages.iter().enumerate() {
        let units = match &stage.kind {
            StageKind::Map(pass) if pass.leaves.iter().any(|leaf| leaf.table() == Some(table)) => plan.grid.units(),
            StageKind::Up { step, level } if table == (TableId { step: *step, of: Rows::Objects }) => {
                plan.tree().units(*level)
            }
            _ => continue,
        };
        let receipts = receipts(worker, i, units).await?;
        contributions.extend(receipts.into_iter().flat_map(|r| r.contributions).filter(|c| c.to == table));
    }
    Ok(contributions)
}

/// Numbers the rows of a table: how many come before each range. Finds the objects' median size on the way.
async fn number(worker: &Worker, stage: usize, table: TableId, receipts: &[Receipt], state: &mut State) -> Result<()> {
    let ranked = state.ranked.iter_mut().find(|ranked| ranked.of == table);
    let ranked = ranked.ok_or_else(|| Error::internal("rows were ranked that nobody cut"))?;
    let kept = receipts.iter().flat_map(|r| &r.rows);
    ranked.bases = std::iter::once(0)
        .chain(kept.scan(0, |total, n| {
            *total += n;
            Some(*total)
        }))
        .collect();
    if table.of == Rows::Contacts {
        return Ok(());
    }
    let mut sizes: BTreeMap<u64, u64> = BTreeMap::new();
    for range in 0..ranked.cuts.len() as u64 {
        let key = layout::scratch(&worker.plan.stages[stage].fingerprint, range);
        let file = Reader::open(&worker.store, &key).await?;
        for pair in decode_u64s(&file.require(Tag::Sizes, 0).await?).chunks_exact(2) {
            *sizes.entry(pair[0]).or_default() += pair[1];
        }
    }
    ranked.median_voxels = median(&sizes);
    Ok(())
}

/// The median of values given with their counts.
fn median(counts: &BTreeMap<u64, u64>) -> Option<f64> {
    let total: u64 = counts.values().sum();
    let at = |rank: u64| {
        let mut before = 0;
        counts.iter().find_map(|(value, count)| {
            before += count;
            (rank < before).then_some(*value as f64)
        })
    };
    Some((at(total.checked_sub(1)? / 2)? + at(total / 2)?) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_counted_values() {
        let of = |pairs: &[(u64, u64)]| median(&pairs.iter().copied().collect());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[(7, 1)]), Some(7.0));
        assert_eq!(of(&[(1, 2), (4, 2)]), Some(2.5));
        assert_eq!(of(&[(1, 2), (4, 3)]), Some(4.0));
    }
}
