//! The `voxmill` command line as a library, so that tests can call what its commands do.

pub mod import;
pub mod info;
pub mod slice;
