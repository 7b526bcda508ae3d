//! `voxmill`: reads the command line, runs one command, turns its result into an exit code.

use std::process::ExitCode;

use coordinator::memory::Remembering;

#[global_allocator]
static ALLOCATOR: Remembering = Remembering::new();

fn main() -> ExitCode {
    coordinator::main()
}
