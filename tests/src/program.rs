//! The program `voxmill`, as the tests run it.

use std::process::ExitCode;

use coordinator::memory::Remembering;

#[global_allocator]
static ALLOCATOR: Remembering = Remembering::new();

fn main() -> ExitCode {
    coordinator::main()
}
