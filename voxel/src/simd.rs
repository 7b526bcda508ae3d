//! One kernel body, compiled for the baseline and for AVX2, chosen when it runs.
//!
//! Kernels are plain loops over contiguous x that LLVM vectorises; nothing here names an instruction. FMA is never
//! enabled: it rounds once where the baseline rounds twice, and a result may not depend on the machine it came from.

/// Defines functions whose body is compiled twice, for the baseline and for AVX2. What the body calls must be
/// `#[inline(always)]` to be compiled with it.
macro_rules! vectorised {
    ($($(#[$doc:meta])* fn $name:ident $(<$($g:ident: $bound:path),+>)? ($($arg:ident: $t:ty),+ $(,)?) $body:block)+) => {$(
        $(#[$doc])*
        fn $name $(<$($g: $bound),+>)? ($($arg: $t),+) {
            #[inline(always)]
            fn body $(<$($g: $bound),+>)? ($($arg: $t),+) $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2 $(<$($g: $bound),+>)? ($($arg: $t),+) {
                body $(::<$($g),+>)? ($($arg),+);
            }

            #[cfg(target_arch = "x86_64")]
            if $crate::simd::has_avx2() {
                // SAFETY: this processor has AVX2, the only feature the function asks for.
                return unsafe { avx2 $(::<$($g),+>)? ($($arg),+) };
            }
            body $(::<$($g),+>)? ($($arg),+);
        }
    )+};
}
pub(crate) use vectorised;

/// Whether this processor runs the AVX2 copies.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn has_avx2() -> bool {
    #[cfg(test)]
    if tests::BASELINE_ONLY.get() {
        return false;
    }
    std::arch::is_x86_feature_detected!("avx2")
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    thread_local! {
        pub(super) static BASELINE_ONLY: Cell<bool> = const { Cell::new(false) };
    }

    /// Runs `compute` on this thread with the AVX2 copies switched off, for tests that compare the two.
    pub(crate) fn on_baseline<R>(compute: impl FnOnce() -> R) -> R {
        BASELINE_ONLY.set(true);
        let result = compute();
        BASELINE_ONLY.set(false);
        result
    }
}
