//! `voxmill`: reads the command line, runs one command, turns its result into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    coordinator::main()
}
