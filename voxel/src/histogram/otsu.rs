//! Otsu's threshold (N. Otsu, "A threshold selection method from gray-level histograms", 1979) in the steps and the order of
//! `skimage.filters.threshold_otsu`, with counts and sums in f64 throughout (scikit-image 0.26 rounds counts to f32).

use super::even_bins::Ruler;

/// Otsu's threshold of an integer image from its counts by value: bin `i` stands for the value `start + i`. The threshold is
/// a value; foreground is what lies above it. A single value is its own threshold; `None` when all counts are zero.
///
/// ```
/// use voxel::histogram::otsu_values;
/// assert_eq!(otsu_values(10, &[4, 0, 0, 5, 1]), Some(10.0));
/// assert_eq!(otsu_values(7, &[0, 3, 0]), Some(8.0));
/// ```
pub fn otsu_values(start: i128, counts: &[u64]) -> Option<f64> {
    otsu(counts, |i| (start + i as i128) as f64)
}

/// Otsu's threshold from counts in even bins over `[lo, hi]`, which stand for their centres; 256 of them are what
/// scikit-image uses for floats. An image of one value (`lo == hi`) gives that value; `None` when all counts are zero.
pub fn otsu_even(lo: f64, hi: f64, counts: &[u64]) -> Option<f64> {
    let ruler = Ruler::new(lo, hi, counts.len());
    let threshold = otsu(counts, |i| ruler.centre(i))?;
    Some(if lo == hi { lo } else { threshold })
}

fn otsu(counts: &[u64], centre: impl Fn(usize) -> f64) -> Option<f64> {
    // Empty bins at either end would make a class of no voxels.
    let first = counts.iter().position(|c| *c != 0)?;
    let last = counts.iter().rposition(|c| *c != 0)?;
    let weights: Vec<f64> = counts[first..=last].iter().map(|c| *c as f64).collect();
    let centres: Vec<f64> = (first..=last).map(centre).collect();

    // Weight and weighted sum of the bins from each one to the end.
    let mut above: Vec<(f64, f64)> = weights
        .iter()
        .zip(&centres)
        .rev()
        .scan((0.0, 0.0), |(weight, sum), (w, c)| {
            (*weight, *sum) = (*weight + w, *sum + w * c);
            Some((*weight, *sum))
        })
        .collect();
    above.reverse();

    let (mut weight, mut sum) = (0.0, 0.0);
    let (mut best, mut best_at) = (f64::NEG_INFINITY, 0);
    for (i, (upper_weight, upper_sum)) in above.iter().skip(1).enumerate() {
        weight += weights[i];
        sum += weights[i] * centres[i];
        let apart = sum / weight - upper_sum / upper_weight;
        let between = weight * upper_weight * (apart * apart);
        if between > best {
            (best, best_at) = (between, i);
        }
    }
    Some(centres[best_at])
}
