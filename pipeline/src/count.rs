//! Histograms across a run: partial ones in the blocks, joined ones between the stages, and what is decided from them.
//!
//! A pass may count any of its images: the one the job measures, and those that barriers wait for. The first round tallies all one pass can know; later
//! rounds count even bins over the range it found, or the next 16 bits of the values at the wanted ranks.

use voxel::histogram::{EvenBins, HistogramReport, PERCENTS, PercentileSearch, Refine, Tally};
use voxel::{AnyVolume, Region};

use crate::op::Choice;
use crate::plan::{Count, Pass, Plan, Round, StageKind};
use crate::scratch::{Reader, Tag};
use crate::state::{State, Wanted};
use crate::store::Store;
use crate::{Error, Result, layout};

/// A partial or joined histogram.
#[derive(Clone, Debug)]
pub(crate) enum Partial {
    Tally(Box<Tally>),
    Bins(EvenBins),
    Refine(Refine),
    /// A round with nothing left to look for.
    Nothing,
}

impl Partial {
    /// An empty one for a count. `state` holds what earlier rounds found.
    fn empty(plan: &Plan, count: &Count, state: &State) -> Self {
        match count.round {
            Round::Tally => Partial::Tally(Box::new(Tally::new(plan.dtype(count.image)))),
            Round::Bins(bins) => {
                let found = state.ranges.iter().find(|(image, _)| *image == count.image).map(|(_, range)| *range);
                found.and_then(|(lo, hi)| EvenBins::new(lo, hi, bins)).map_or(Partial::Nothing, Partial::Bins)
            }
            Round::Refine => {
                let wanted = state.wanted.iter().find(|wanted| wanted.image == count.image);
                let dtype = plan.dtype(count.image);
                let empty = wanted.and_then(|w| Refine::new(dtype, w.bits, w.prefixes.clone()));
                empty.map_or(Partial::Nothing, Partial::Refine)
            }
        }
    }

    fn add(&mut self, image: &AnyVolume, region: Region) {
        match self {
            Partial::Tally(tally) => tally.add(image, region),
            Partial::Bins(bins) => bins.add(image, region),
            Partial::Refine(refine) => refine.add(image, region),
            Partial::Nothing => {}
        }
    }

    /// Joins two histograms of the same count.
    pub(crate) fn merge(&mut self, other: Partial) {
        match (self, other) {
            (Partial::Tally(mine), Partial::Tally(other)) => mine.merge(&other),
            (Partial::Bins(mine), Partial::Bins(other)) => mine.merge(&other),
            (Partial::Refine(mine), Partial::Refine(other)) => mine.merge(&other),
            _ => {}
        }
    }

    /// The bytes of a section.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Partial::Tally(tally) => tally.encode(&mut out),
            Partial::Bins(bins) => bins.encode(&mut out),
            Partial::Refine(refine) => refine.encode(&mut out),
            Partial::Nothing => {}
        }
        out
    }

    /// The inverse of [`Partial::encode`] for a count.
    pub(crate) fn decode(round: Round, bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Partial::Nothing);
        }
        Some(match round {
            Round::Tally => Partial::Tally(Box::new(Tally::decode(bytes)?)),
            Round::Bins(_) => Partial::Bins(EvenBins::decode(bytes)?),
            Round::Refine => Partial::Refine(Refine::decode(bytes)?),
        })
    }
}

/// Counts the voxels of a block.
pub(crate) fn of_block(plan: &Plan, count: &Count, image: &AnyVolume, block: Region, state: &State) -> Partial {
    let mut partial = Partial::empty(plan, count, state);
    partial.add(image, block);
    partial
}

/// Joins the partial histograms of a stage's segments; one for each count of the pass.
pub(crate) async fn join(
    store: &Store,
    plan: &Plan,
    pass: &Pass,
    state: &State,
    keys: &[String],
) -> Result<Vec<Partial>> {
    let mut joined: Vec<Partial> = pass.counts().map(|count| Partial::empty(plan, &count, state)).collect();
    for key in keys {
        let file = Reader::whole(store, key).await?;
        for (partial, more) in joined.iter_mut().zip(read(&file, pass).await?) {
            partial.merge(more);
        }
    }
    Ok(joined)
}

async fn read(file: &Reader, pass: &Pass) -> Result<Vec<Partial>> {
    let mut partials = Vec::new();
    for (i, count) in pass.counts().enumerate() {
        let bytes = file.require(Tag::Tally, i as u64).await?;
        partials.push(
            Partial::decode(count.round, &bytes).ok_or_else(|| file.damaged("a histogram in it can't be decoded"))?,
        );
    }
    Ok(partials)
}

/// Every joined histogram of one image so far, from the digests of the stages up to and including `last`.
async fn history(
    store: &Store,
    plan: &Plan,
    last: usize,
    image: usize,
) -> Result<(Tally, Option<EvenBins>, Vec<Refine>)> {
    let (mut tally, mut bins, mut refined) = (None, None, Vec::new());
    for stage in &plan.stages[..=last] {
        let StageKind::Map(pass) = &stage.kind else { continue };
        if !pass.counts().any(|count| count.image == image) {
            continue;
        }
        let file = Reader::whole(store, &layout::digest(&stage.fingerprint)).await?;
        for (count, partial) in pass.counts().zip(read(&file, pass).await?).filter(|(count, _)| count.image == image) {
            match partial {
                Partial::Tally(t) => tally = Some(*t),
                Partial::Bins(b) => bins = Some(b),
                Partial::Refine(r) => refined.push(r),
                Partial::Nothing => debug_assert!(count.round != Round::Tally),
            }
        }
    }
    let tally = tally.ok_or_else(|| Error::internal("a histogram is asked for that no stage made"))?;
    Ok((tally, bins, refined))
}

/// What is asked of the ranks of an image: by the threshold that waits for it, and by the report.
fn percents(plan: &Plan, image: usize) -> Vec<f64> {
    let chosen = match plan.choice(image) {
        Some(Choice::Percentile(p)) => Some(p),
        _ => None,
    };
    let reported = (image == plan.measured).then(|| PERCENTS.map(f64::from));
    chosen.into_iter().chain(reported.into_iter().flatten()).collect()
}

fn search(plan: &Plan, image: usize, tally: &Tally, refined: &[Refine]) -> Result<Option<PercentileSearch>> {
    let mut search = PercentileSearch::new(tally, &percents(plan, image));
    for pass in refined {
        let next =
            search.map(|s| s.refined(pass).ok_or_else(|| Error::internal("a refining pass counted other ranks")));
        search = next.transpose()?;
    }
    Ok(search)
}

/// Decides what can be decided after a stage: ranges and ranks for the next round, thresholds.
///
/// # Errors
/// Data when a threshold is to be chosen and no voxel is finite.
pub(crate) async fn decide(store: &Store, plan: &Plan, stage: usize, pass: &Pass, state: &mut State) -> Result<()> {
    for count in pass.counts() {
        let (tally, bins, refined) = history(store, plan, stage, count.image).await?;
        let later = |round: fn(&Round) -> bool| {
            plan.stages[stage + 1..].iter().any(|s| match &s.kind {
                StageKind::Map(p) => p.counts().any(|c| c.image == count.image && round(&c.round)),
                _ => false,
            })
        };
        state.ranges.retain(|(image, _)| *image != count.image);
        let wants_bins = later(|round| matches!(round, Round::Bins(_)));
        // Values that have a count each need no bins.
        if let (true, None, Some((lo, hi))) = (wants_bins, tally.values(), tally.range()) {
            state.ranges.push((count.image, (lo.to_f64(), hi.to_f64())));
        }
        state.wanted.retain(|wanted| wanted.image != count.image);
        if later(|round| *round == Round::Refine) {
            let wanted = search(plan, count.image, &tally, &refined)?.and_then(|s| s.wanted());
            state.wanted.extend(wanted.map(|w| Wanted {
                image: count.image,
                bits: w.bits(),
                prefixes: w.prefixes().to_vec(),
            }));
        }
        choose(plan, count.image, &tally, bins.as_ref(), &refined, state)?;
    }
    Ok(())
}

/// Chooses the threshold that waits for this image, once everything it needs is known.
fn choose(
    plan: &Plan,
    op: usize,
    tally: &Tally,
    bins: Option<&EvenBins>,
    refined: &[Refine],
    state: &mut State,
) -> Result<()> {
    let Some(by) = plan.choice(op) else { return Ok(()) };
    if tally.finite() == 0 {
        let method = match by {
            Choice::Otsu => "Otsu's threshold".to_owned(),
            Choice::Percentile(p) => format!("percentile {p}"),
        };
        return Err(Error::data(format!(
            "step {} (threshold) asks for {method}, but none of the {} voxels it is given is finite",
            op + 1,
            tally.voxels()
        ))
        .hint("look at the input with `voxmill slice`, or set the threshold yourself with above = ..."));
    }
    let chosen = match by {
        Choice::Otsu => match (tally.values(), bins) {
            (Some((start, counts)), _) => voxel::histogram::otsu_values(start, counts),
            (None, Some(bins)) => bins.otsu(),
            (None, None) => None,
        },
        Choice::Percentile(_) => {
            search(plan, op, tally, refined)?.and_then(|s| s.values()).and_then(|values| values.first().copied())
        }
    };
    state.thresholds.extend(chosen.map(|t| (op, t)));
    Ok(())
}

/// What is written about the measured image.
pub(crate) async fn report(store: &Store, plan: &Plan) -> Result<HistogramReport> {
    let (image, of) = (plan.measured, plan.measured_name());
    let (tally, bins, refined) = history(store, plan, plan.stages.len() - 1, image).await?;
    let search = search(plan, image, &tally, &refined)?;
    // Even bins are those of a job that only measures; bins that a threshold asked for on the way are its own.
    if let (Some(bins), Some(search), true) = (&bins, &search, plan.ops.is_empty())
        && let Some(report) = HistogramReport::from_even_bins(of, &tally, bins, search)
    {
        return Ok(report);
    }
    let report = HistogramReport::from_tally(of, &tally);
    // A threshold's own percentile comes before those of the report.
    let exact = search.and_then(|search| search.values()).and_then(|values| {
        let own = values.len().checked_sub(PERCENTS.len())?;
        values[own..].try_into().ok()
    });
    Ok(match exact {
        Some(exact) => report.with_exact(exact),
        None => report,
    })
}
