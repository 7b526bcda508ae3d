//! One kernel body, compiled for each level of vector instructions, and the level chosen when it runs.
//!
//! Kernels are plain loops over contiguous x that LLVM vectorises; nothing here names an instruction. A result may not
//! depend on the machine it came from, so that no product is ever fused with a sum: FMA rounds once where the baseline
//! rounds twice. AVX-512 brings FMA with it, but rustc fuses nothing that isn't written as fused.

use std::sync::OnceLock;

/// The vector instructions a kernel is compiled for, from few to many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What every processor of the architecture has: SSE2 on x86-64, NEON on aarch64.
    Baseline,
    /// AVX2, 256 bits wide.
    Avx2,
    /// AVX-512 with instructions for bytes and words (F, BW, DQ and VL), 512 bits wide.
    Avx512,
}

impl Level {
    /// The highest this processor has.
    fn of_processor() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") && has!("avx2") {
                return Level::Avx512;
            }
            if has!("avx2") {
                return Level::Avx2;
            }
        }
        Level::Baseline
    }

    /// The level of this name, as a setting has it.
    pub fn named(name: &str) -> Option<Level> {
        Some(match name {
            "baseline" => Level::Baseline,
            "avx2" => Level::Avx2,
            "avx512" => Level::Avx512,
            _ => return None,
        })
    }

    /// As its maker writes it.
    pub fn name(self) -> &'static str {
        match self {
            Level::Baseline if cfg!(target_arch = "x86_64") => "SSE2",
            Level::Baseline if cfg!(target_arch = "aarch64") => "NEON",
            Level::Baseline => "baseline",
            Level::Avx2 => "AVX2",
            Level::Avx512 => "AVX-512",
        }
    }
}

/// Chosen once, when the first kernel asks.
static LEVEL: OnceLock<Level> = OnceLock::new();

/// The level that kernels run at on this processor.
#[inline]
pub fn level() -> Level {
    #[cfg(test)]
    if let Some(level) = tests::LEVEL.get() {
        return level;
    }
    *LEVEL.get_or_init(Level::of_processor)
}

/// Lets all kernels of this process run at no higher level than this one, and tells which one that is. For those who
/// measure the lower levels; without effect once a kernel has run.
pub fn keep_to(most: Level) -> Level {
    *LEVEL.get_or_init(|| Level::of_processor().min(most))
}

/// Defines functions whose body is compiled once for each level. What the body calls must be `#[inline(always)]` to be
/// compiled with it.
macro_rules! vectorised {
    ($($(#[$doc:meta])* $vis:vis fn $name:ident $(<$($g:ident: $bound:path),+>)? ($($arg:ident: $t:ty),+ $(,)?) $body:block)+) => {$(
        $(#[$doc])*
        $vis fn $name $(<$($g: $bound),+>)? ($($arg: $t),+) {
            #[inline(always)]
            fn body $(<$($g: $bound),+>)? ($($arg: $t),+) $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2 $(<$($g: $bound),+>)? ($($arg: $t),+) {
                body $(::<$($g),+>)? ($($arg),+);
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
            fn avx512 $(<$($g: $bound),+>)? ($($arg: $t),+) {
                body $(::<$($g),+>)? ($($arg),+);
            }

            match $crate::simd::level() {
                // SAFETY: a processor of this level has every feature the function asks for.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Level::Avx512 => unsafe { avx512 $(::<$($g),+>)? ($($arg),+) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Level::Avx2 => unsafe { avx2 $(::<$($g),+>)? ($($arg),+) },
                _ => body $(::<$($g),+>)? ($($arg),+),
            }
        }
    )+};
}
pub(crate) use vectorised;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        /// The level that kernels run at on this thread, instead of the processor's.
        pub(super) static LEVEL: Cell<Option<Level>> = const { Cell::new(None) };
    }

    /// What `compute` gives on this thread, which must be the same at each level that the processor has.
    pub(crate) fn on_each_level<R: PartialEq>(mut compute: impl FnMut() -> R) -> R {
        let mut at = |level| {
            LEVEL.set(Some(level));
            let result = compute();
            LEVEL.set(None);
            result
        };
        let result = at(Level::Baseline);
        for level in [Level::Avx2, Level::Avx512].into_iter().filter(|level| *level <= Level::of_processor()) {
            assert!(at(level) == result, "{} gives what {} does not", level.name(), Level::Baseline.name());
        }
        result
    }

    #[test]
    fn each_level_of_the_processor_runs() {
        let mut ran = Vec::new();
        on_each_level(|| ran.push(level()));
        assert!(ran.is_sorted() && ran[0] == Level::Baseline);
        assert_eq!(ran.last(), Some(&level()));
    }
}
