//! The law every partial result obeys.

/// A partial result that can be joined with others of its kind, in any order and any grouping.
///
/// The law, tested for every implementation: `identity` changes nothing; joining is associative and commutative; and
/// the joined value is equal bit for bit whichever way it was reached. Nothing that rounds may be merged.
pub trait Merge: Sized {
    /// The value that joins without effect.
    fn identity() -> Self;

    /// Takes `other` into `self`.
    fn merge(&mut self, other: Self);
}
