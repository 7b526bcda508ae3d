//! Filters: a voxel becomes a function of its neighbourhood, or of itself.
//!
//! Each filter is a value that holds its parameters, as a plan carries them, and three methods. `apply(input, out,
//! extent)` computes the voxels of `out` from an input that holds at least `out` grown by the halo and clipped to the
//! image; `halo()` is how far it looks, in voxels along z, y, x; `peak_bytes(dtype, input, out)` is how many bytes of
//! voxels, temporaries included, are alive at once while it runs. Filters that look at one voxel only have no halo and
//! no use for the extent.
//!
//! Left to others: checking parameters (they come from a plan that was checked), cutting an image into blocks, threads.

mod boundary;
mod cast;
mod clip;
mod extreme;
mod gaussian;
pub(crate) mod keyed;
mod mean;
mod median;
mod rescale;

pub use boundary::Boundary;
pub use cast::{cast, cast_peak_bytes};
pub use clip::Clip;
pub use extreme::{End, Extreme};
pub use gaussian::{Gaussian, Input, slabs};
pub use mean::Mean;
pub use median::Median;
pub use rescale::Rescale;

#[cfg(test)]
pub(crate) mod testing;
