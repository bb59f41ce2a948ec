//! The real agent, for the launcher's tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    slipway_agent::main(&[])
}
