//! `slipway-agent`: runs one attempt of a training job.

use std::process::ExitCode;

fn main() -> ExitCode {
    slipway_agent::main(&[])
}
