//! One binary for all tests of the whole program.

#![allow(clippy::unwrap_used)]

mod bad_input;
mod cli;
mod faults;
mod memory;
mod program;
