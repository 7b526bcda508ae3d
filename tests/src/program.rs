//! The program `voxmill`, as the tests run it.

use std::process::ExitCode;

fn main() -> ExitCode {
    coordinator::main()
}
