//! The voxel kernels of voxmill: arrays in, arrays out.
//!
//! Pure arithmetic on boxes of voxels in memory: filters, thresholds, morphology, labels, object statistics and
//! histograms. What is left to others: reading and writing (the crate `pipeline`'s job), deciding which box to compute, and
//! every clock. Conventions are those of `scipy.ndimage`; where they differ the function says so.
//!
//! Two ideas run through all of it. A kernel gets a [`Volume`] that knows where in its image it lies and gives back the
//! part it was asked for, so that a block computed alone equals the same voxels of the whole image, bit for bit. And
//! whatever is summed is summed exactly ([`exact_sum`]), so that partial results join in any order ([`Merge`]).

pub mod contacts;
pub mod exact_sum;
pub mod filter;
pub mod histogram;
pub mod label;
pub mod mask;
pub mod morphology;
pub mod pyramid;
pub mod runs;
pub mod seam;
pub mod simd;
pub mod table;
pub mod threshold;

mod bits;
mod dtype;
mod merge;
mod number;
mod region;
mod union;
mod varint;
mod volume;
mod window;

pub use dtype::{Dtype, Element};
pub use merge::Merge;
pub use region::{Extent, Region};
pub use union::DisjointSets;
pub use volume::{AnyElement, AnyVolume, Volume};
