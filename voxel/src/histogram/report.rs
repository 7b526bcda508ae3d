//! The histogram as people and programs read it.

use serde::{Serialize, Serializer};

use crate::Dtype;

use super::tally::scalar;
use super::{EvenBins, PercentileSearch, Scalar, Tally, approximate_percentile, otsu_values};

/// The percentiles every report gives.
pub const PERCENTS: [u32; 7] = [1, 5, 25, 50, 75, 95, 99];

/// What is written to `histogram.json`. Where there is no finite voxel, all that needs one is null and counts are empty.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HistogramReport {
    /// What was measured: `input`, or the name of a saved image.
    pub of: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Every voxel.
    pub voxels: u64,
    /// Voxels that are neither NaN nor infinite; all that follows is about these.
    pub finite: u64,
    /// Voxels that are NaN.
    pub nan: u64,
    /// Voxels that are +Inf.
    pub posinf: u64,
    /// Voxels that are -Inf.
    pub neginf: u64,
    /// Least value.
    pub min: Option<Scalar>,
    /// Greatest value.
    pub max: Option<Scalar>,
    /// Mean.
    pub mean: Option<f64>,
    /// Population standard deviation.
    pub std: Option<f64>,
    /// Sum, rounded once.
    pub sum: Option<f64>,
    /// One value for each of [`PERCENTS`], numpy's linear percentiles.
    #[serde(serialize_with = "by_percent")]
    pub percentiles: Option<[f64; PERCENTS.len()]>,
    /// Counts, and what they count.
    #[serde(flatten)]
    pub bins: Bins,
    /// True when the percentiles are exact.
    pub exact: bool,
    /// When they are not: each lies no further than this above the value given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound: Option<f64>,
    /// Otsu's threshold, where the counts give one.
    pub otsu: Option<f64>,
}

/// Counts of finite voxels.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Bins {
    /// `counts[i]` voxels lie in `bin_start + i * bin_width` and up to the next bin; the last bin holds its upper edge too.
    Even {
        /// One count per bin.
        counts: Vec<u64>,
        /// Lower edge of the first bin, or the first value.
        bin_start: Option<Scalar>,
        /// Width of a bin; 1 when each value has its own.
        bin_width: Option<Scalar>,
    },
    /// `counts[i]` voxels lie in `edges[i] <= v < edges[i + 1]`; the last bin holds its upper edge too.
    Edges {
        /// One count per bin.
        counts: Vec<u64>,
        /// Edges, ascending, one more than counts (none when there are no counts).
        edges: Vec<f64>,
    },
}

fn by_percent<S: Serializer>(values: &Option<[f64; PERCENTS.len()]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(PERCENTS.iter().enumerate().map(|(i, percent)| (percent, values.map(|values| values[i]))))
}

impl HistogramReport {
    /// The report of a first pass alone: exact where values are counted one by one, otherwise with the edges of the
    /// key buckets, percentiles within a bound, and no Otsu threshold.
    pub fn from_tally(of: &str, tally: &Tally) -> Self {
        let approximate = PERCENTS.map(|percent| approximate_percentile(tally, percent.into()));
        let bound = approximate.iter().flatten().map(|a| a.bound).fold(0.0, f64::max);
        let percentiles = (tally.finite() > 0).then(|| approximate.map(|a| a.map_or(f64::NAN, |a| a.value)));
        let (bins, otsu) = match tally.values() {
            Some((start, counts)) => (
                Bins::Even {
                    counts: counts.to_vec(),
                    bin_start: Some(Scalar::Integer(start)),
                    bin_width: Some(Scalar::Integer(1)),
                },
                otsu_values(start, counts),
            ),
            None if tally.finite() == 0 => (Bins::Even { counts: Vec::new(), bin_start: None, bin_width: None }, None),
            None => (bucket_bins(tally), None),
        };
        Self::new(of, tally, percentiles, (bound > 0.0).then_some(bound), bins, otsu)
    }

    /// The report of a measure-only job on a wide type: first pass, even bins over its range, and a finished search for
    /// [`PERCENTS`]. `None` when the search is not finished or was for others.
    pub fn from_even_bins(of: &str, tally: &Tally, bins: &EvenBins, search: &PercentileSearch) -> Option<Self> {
        let percentiles: [f64; PERCENTS.len()] = search.values()?.try_into().ok()?;
        let (start, width) = bins.start_and_width();
        let even = Bins::Even {
            counts: bins.counts().to_vec(),
            bin_start: Some(Scalar::Float(start)),
            bin_width: Some(Scalar::Float(width)),
        };
        Some(Self::new(of, tally, Some(percentiles), None, even, bins.otsu()))
    }

    /// The same report with percentiles that further passes have found exactly.
    pub fn with_exact(self, percentiles: [f64; PERCENTS.len()]) -> Self {
        Self { percentiles: Some(percentiles), exact: true, bound: None, ..self }
    }

    fn new(
        of: &str,
        tally: &Tally,
        percentiles: Option<[f64; PERCENTS.len()]>,
        bound: Option<f64>,
        bins: Bins,
        otsu: Option<f64>,
    ) -> Self {
        let moments = tally.moments();
        let (min, max) = tally.range().unzip();
        Self {
            of: of.to_owned(),
            dtype: tally.dtype(),
            voxels: tally.voxels(),
            finite: tally.finite(),
            nan: tally.nan(),
            posinf: tally.posinf(),
            neginf: tally.neginf(),
            min,
            max,
            mean: moments.mean(),
            std: moments.std(),
            sum: (moments.count() > 0).then(|| moments.sum()),
            percentiles,
            bins,
            exact: bound.is_none(),
            bound,
            otsu,
        }
    }
}

/// Counts by key prefix as bins with edges, from the first bucket that holds a voxel to the last.
fn bucket_bins(tally: &Tally) -> Bins {
    let (shift, first, counts) = tally.prefixes();
    let edges = (first..=first + counts.len() as u64).map(|prefix| bucket_edge(tally.dtype(), prefix, shift)).collect();
    Bins::Edges { counts: counts.to_vec(), edges }
}

/// Least value of a bucket of keys. The bucket after the last one of a type has one too: a power of two for integers, and
/// for floats, where it would be infinite, the greatest finite value.
fn bucket_edge(dtype: Dtype, prefix: u64, shift: u32) -> f64 {
    match scalar(dtype, 0) {
        // Both terms are multiples of 2^shift with at most 17 significant bits, so the sum is exact.
        Scalar::Integer(lowest) => ((i128::from(prefix) << shift) + lowest) as f64,
        Scalar::Float(_) if dtype == Dtype::F32 => scalar(dtype, prefix << shift).to_f64().min(f32::MAX.into()),
        Scalar::Float(_) => scalar(dtype, prefix << shift).to_f64().min(f64::MAX),
    }
}
