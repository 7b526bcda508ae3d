//! The name a mistyped one was probably meant to be.

/// The candidate nearest to `word`, when one is near enough to be worth suggesting: it begins with the word, or is at
/// most a third of the word's letters, rounded up, away in edits. The first of equals wins.
pub(crate) fn nearest<S: AsRef<str>>(word: &str, candidates: impl IntoIterator<Item = S>) -> Option<S> {
    let word = word.to_lowercase();
    let letters = word.chars().count();
    let ranked = candidates.into_iter().filter_map(|candidate| {
        let name = candidate.as_ref();
        let edits = if letters >= 3 && name.starts_with(&word) { 0 } else { distance(&word, name) };
        (edits <= letters.div_ceil(3) && edits < letters).then_some((edits, candidate))
    });
    ranked.min_by_key(|(edits, _)| *edits).map(|(_, candidate)| candidate)
}

/// Levenshtein's distance in characters: the fewest insertions, deletions and substitutions.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    // One row of the dynamic programming table: edits from the part of `a` seen so far to each prefix of `b`.
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (a, b, edits) in [("", "", 0), ("", "abc", 3), ("abc", "abc", 0), ("kitten", "sitting", 3), ("µm", "um", 1)]
        {
            assert_eq!(distance(a, b), edits, "{a} {b}");
            assert_eq!(distance(b, a), edits, "{b} {a}");
        }
    }

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let ops = ["rescale", "gaussian", "threshold", "erode", "open"];
        assert_eq!(nearest("gausian", ops), Some("gaussian"));
        assert_eq!(nearest("Gauss", ops), Some("gaussian"));
        assert_eq!(nearest("thresh", ops), Some("threshold"));
        assert_eq!(nearest("opne", ops), Some("open"));
        assert_eq!(nearest("watershed", ops), None);
        assert_eq!(nearest("x", ["y"]), None, "one letter is near everything");
        assert_eq!(nearest("", ops), None);
    }
}
