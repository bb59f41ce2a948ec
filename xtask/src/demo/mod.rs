//! The demo: the main job of Slipway, on real data, with every part real.

mod html;
mod measure;
mod outcome;
mod platform;
mod report;
mod story;
mod traffic;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use clap::Args;

use crate::build::{self, root, run as run_command};
use crate::progress::step;
use crate::venv;
use platform::Platform;

/// Arguments of `cargo xtask demo`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Data set: `breast_cancer`, `digits`, or the path of a CSV file.
    #[arg(long, default_value = "breast_cancer", value_name = "NAME_OR_CSV")]
    pub(crate) data_set: String,
    /// Label column of a CSV file.
    #[arg(long, value_name = "COLUMN")]
    pub(crate) label: Option<String>,
    /// File for the report as JSON; an HTML page with plots is written next to it.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Leaves the platform running.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Shorter canary steps and less traffic.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Requests per second.
    #[arg(long, default_value_t = 150, value_parser = clap::value_parser!(u32).range(10..=5000))]
    pub(crate) rate: u32,
    /// Data directory of the demo's platform; emptied at startup.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Uses an optimized build.
    #[arg(long)]
    pub(crate) release: bool,
}

/// Sets everything up and runs the story.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let data_set = resolve_data_set(options)?;
    let python = venv::ensure()?;
    let programs = build::programs(options.release)?;
    build::toolbox()?;
    let data_dir = options.data_dir.clone().unwrap_or_else(|| root().join(".slipway/demo"));
    Platform::clear(&programs, &data_dir)?;
    let inputs = step("split the data into training, live traffic and its later shift", || {
        prepare(&python, &data_set, options.label.as_deref(), &data_dir)
    })?;
    let platform = step("start the platform (slipway up)", || Platform::start(&programs, &data_dir))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let plan = story::Plan { options: options.clone(), data_set, python, inputs };
    let told = runtime.block_on(story::tell(&platform, plan));
    match &told {
        Ok(told) => report::finish(told, options.report.as_deref())?,
        Err(_) => eprintln!("    logs of every part are in {}", data_dir.join("logs").display()),
    }
    if options.keep {
        eprintln!("\nThe platform is still running. Explore it:\n");
        eprintln!("    {} --data-dir {} status", programs.slipway.display(), data_dir.display());
        eprintln!(
            "    {} --data-dir {} down      # stops it",
            programs.slipway.display(),
            data_dir.display()
        );
    } else {
        step("stop the platform", || platform.stop())?;
    }
    told.and_then(|told| told.require_success())
}

/// A CSV by its absolute path, so that jobs find it from their own folders; a name as it is.
fn resolve_data_set(options: &Options) -> anyhow::Result<String> {
    if !options.data_set.ends_with(".csv") {
        return Ok(options.data_set.clone());
    }
    let path = std::fs::canonicalize(&options.data_set)
        .with_context(|| format!("cannot read the CSV `{}` (--data-set)", options.data_set))?;
    anyhow::ensure!(
        options.label.is_some(),
        "--label COLUMN is needed with a CSV: which column is to be predicted?"
    );
    Ok(path.to_string_lossy().into_owned())
}

/// Where the data of a demo lies: training jobs read it, to which the data directory is closed where they run
/// as another account.
pub(crate) fn inputs_folder(data_dir: &std::path::Path) -> anyhow::Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    std::path::absolute(data_dir)?.hash(&mut hasher);
    Ok(venv::cache_dir()?.join("demo-inputs").join(format!("{:016x}", hasher.finish())))
}

fn prepare(
    python: &std::path::Path,
    data_set: &str,
    label: Option<&str>,
    data_dir: &std::path::Path,
) -> anyhow::Result<traffic::Inputs> {
    let folder = inputs_folder(data_dir)?;
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut command = Command::new(python);
    command.arg(root().join("examples/training/prepare.py"));
    command.args(["--data-set", data_set]).arg("--out").arg(&folder);
    if let Some(label) = label {
        command.args(["--label", label]);
    }
    run_command(&mut command)?;
    traffic::Inputs::read(&folder)
}
