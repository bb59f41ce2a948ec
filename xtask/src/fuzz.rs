//! Fuzzing of what reads requests: libFuzzer, led by the coverage of the code.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use clap::ValueEnum as _;

use crate::build::{root, run};
use crate::progress::step;

const FOLDER: &str = "services/serving/fuzz";
/// An input that takes longer is one that hangs.
const TIMEOUT_S: u32 = 10;
const MEMORY_LIMIT_MIB: u32 = 1024;
/// Longest input.
const MAX_BYTES: u32 = 8 * 1024;

/// What is read.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Target {
    /// Bodies of inference requests that are JSON alone.
    Json,
    /// Bodies of inference requests with raw tensors behind the JSON.
    Binary,
    /// Bodies of KServe's v1.
    Rows,
    /// Messages of `ModelInfer`.
    Grpc,
    /// Bodies of calls of `ModelInfer`.
    Framed,
    /// Compressed bodies.
    Compressed,
}

/// See `cargo xtask fuzz --help`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Targets to fuzz, one after the other [default: all].
    #[arg(value_enum)]
    targets: Vec<Target>,
    /// Duration per target, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// Runs the targets; the input that stopped one is kept in the folder's `artifacts`, and printed.
pub(crate) fn start(options: &Options) -> anyhow::Result<()> {
    let folder = root().join(FOLDER);
    let there = cargo_fuzz().arg("--version").output().is_ok_and(|output| output.status.success());
    ensure!(
        there,
        "fuzzing needs nightly Rust and cargo-fuzz: rustup toolchain install nightly && cargo install \
         cargo-fuzz"
    );
    // The same versions as everywhere.
    std::fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock")).context("cannot copy Cargo.lock")?;
    let all = Target::value_variants();
    for target in if options.targets.is_empty() { all } else { &options.targets } {
        let name = target.to_possible_value().context("a target without a name")?;
        let name = name.get_name();
        step(
            &format!("fuzz {name} for {} s (the first time, building takes minutes)", options.seconds),
            || fuzz(&folder, name, options.seconds),
        )?;
    }
    Ok(())
}

fn fuzz(folder: &Path, target: &str, seconds: u32) -> anyhow::Result<()> {
    let corpus = folder.join("corpus").join(target);
    std::fs::create_dir_all(&corpus).with_context(|| format!("cannot make {}", corpus.display()))?;
    let mut command = cargo_fuzz();
    command.args(["run", "--fuzz-dir"]).arg(folder).arg(target).arg(corpus);
    command.arg(folder.join("seeds").join(target)).args([
        "--".to_owned(),
        format!("-max_total_time={seconds}"),
        format!("-timeout={TIMEOUT_S}"),
        format!("-rss_limit_mb={MEMORY_LIMIT_MIB}"),
        format!("-max_len={MAX_BYTES}"),
        "-print_final_stats=1".to_owned(),
    ]);
    run(&mut command)
}

/// `cargo fuzz` of nightly Rust, whatever toolchain runs us.
fn cargo_fuzz() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo", "fuzz"]);
    command.current_dir(root().join(FOLDER));
    for name in ["RUSTUP_TOOLCHAIN", "CARGO", "RUSTC", "RUSTFLAGS"] {
        command.env_remove(name);
    }
    command
}
