//! Numbers that are known, or between two.

use std::iter::Sum;
use std::ops::{Add, AddAssign, Mul};

use serde::{Deserialize, Serialize};

use crate::store::Requests;

/// A number that is known, where both ends are the same, or that lies between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// At least.
    pub low: u64,
    /// At most.
    pub high: u64,
}

impl Span {
    /// A number that is known.
    pub const fn exact(n: u64) -> Self {
        Self { low: n, high: n }
    }

    /// Anything up to it.
    pub const fn up_to(high: u64) -> Self {
        Self { low: 0, high }
    }

    /// Whether the number is known.
    pub fn is_exact(&self) -> bool {
        self.low == self.high
    }

    /// Whether it may be this.
    pub fn contains(&self, n: u64) -> bool {
        (self.low..=self.high).contains(&n)
    }
}

impl Add for Span {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { low: self.low.saturating_add(other.low), high: self.high.saturating_add(other.high) }
    }
}

impl Add<u64> for Span {
    type Output = Self;

    fn add(self, n: u64) -> Self {
        self + Self::exact(n)
    }
}

impl AddAssign for Span {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Mul for Span {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        Self { low: self.low.saturating_mul(other.low), high: self.high.saturating_mul(other.high) }
    }
}

impl Mul<u64> for Span {
    type Output = Self;

    fn mul(self, n: u64) -> Self {
        self * Self::exact(n)
    }
}

impl Sum for Span {
    fn sum<I: Iterator<Item = Self>>(spans: I) -> Self {
        spans.fold(Self::default(), Add::add)
    }
}

/// Requests of each kind, and bytes moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Reads of an object or a range of one, and existence checks.
    pub gets: Span,
    /// Writes; of a large object each part, and two for its beginning and end.
    pub puts: Span,
    /// Listings.
    pub lists: Span,
    /// Deleted objects.
    pub deletes: Span,
    /// Bytes read.
    pub bytes_in: Span,
    /// Bytes written.
    pub bytes_out: Span,
}

impl Asked {
    /// So many reads.
    pub fn gets(n: u64) -> Self {
        Self { gets: Span::exact(n), ..Self::default() }
    }

    /// So many writes.
    pub fn puts(n: u64) -> Self {
        Self { puts: Span::exact(n), ..Self::default() }
    }

    /// So many deletions.
    pub fn deletes(n: u64) -> Self {
        Self { deletes: Span::exact(n), ..Self::default() }
    }

    /// The same, or nothing of it.
    pub(super) fn or_none(self) -> Self {
        self * Span::up_to(1)
    }

    /// Whether a run may have made these requests. Bytes are left out.
    pub fn contains(&self, made: &Requests) -> bool {
        self.gets.contains(made.gets)
            && self.puts.contains(made.puts)
            && self.lists.contains(made.lists)
            && self.deletes.contains(made.deletes)
    }

    fn with(self, other: Self, join: impl Fn(Span, Span) -> Span) -> Self {
        Self {
            gets: join(self.gets, other.gets),
            puts: join(self.puts, other.puts),
            lists: join(self.lists, other.lists),
            deletes: join(self.deletes, other.deletes),
            bytes_in: join(self.bytes_in, other.bytes_in),
            bytes_out: join(self.bytes_out, other.bytes_out),
        }
    }
}

impl Add for Asked {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.with(other, Add::add)
    }
}

impl AddAssign for Asked {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Mul<Span> for Asked {
    type Output = Self;

    fn mul(self, times: Span) -> Self {
        self.with(Self::default(), |mine, _| mine * times)
    }
}

impl Mul<u64> for Asked {
    type Output = Self;

    fn mul(self, times: u64) -> Self {
        self * Span::exact(times)
    }
}

impl Sum for Asked {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}
