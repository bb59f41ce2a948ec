//! `slipway`: the command line, and the whole platform on one machine.

use std::process::ExitCode;

use clap::Parser as _;

/// First argument with which the launcher makes this program an agent.
const AGENT: &str = "agent";

fn main() -> ExitCode {
    if let Some(code) = slipway_serving::load_model_if_asked() {
        return code;
    }
    // The agent is a program of its own with arguments of its own, which only shares the file.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == AGENT) {
        return slipway_agent::main(&[AGENT]);
    }
    slipway::run(slipway::cli::Arguments::parse())
}
