//! `cargo xtask attack`: a platform with access control on, and attacks on it.
//! SECURITY.md says who attacks and what each door is.

mod job;
mod local;
mod platform;
mod services;
mod tenant;
mod uploads;
mod web;

use std::path::PathBuf;

use clap::Args;

use crate::build::{self, Programs, root};
use crate::progress::step;
use crate::venv;
use platform::Platform;

/// Arguments of `cargo xtask attack`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Data directory of the attacked platform; emptied at startup.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Leaves the platform running.
    #[arg(long)]
    keep: bool,
}

/// What came of the attempts at one door.
#[derive(Debug, Default)]
pub(crate) struct Door {
    name: String,
    attempts: usize,
    /// Attempts that should have been refused, in words.
    open: Vec<String>,
    /// Why some attempts could not be made here.
    left_out: Option<String>,
}

impl Door {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Counts an attempt; `open` says what it achieved.
    fn attempt(&mut self, open: Option<String>) {
        self.attempts += 1;
        self.open.extend(open);
    }
}

/// Builds the platform, attacks it, and fails where a door is open.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    build::toolbox()?;
    let programs = build::programs(false)?;
    let data_dir = options.data_dir.clone().unwrap_or_else(|| root().join("target/attack/platform"));
    against(&programs, &data_dir, options.keep)
}

/// Attacks a fresh platform in `data_dir`.
pub(crate) fn against(programs: &Programs, data_dir: &std::path::Path, keep: bool) -> anyhow::Result<()> {
    let python = venv::ensure()?;
    let platform =
        step("start the platform to attack (slipway up --auth on)", || Platform::start(programs, data_dir))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let doors = step("attack", || {
        let mut doors = runtime.block_on(async {
            let mut doors = web::doors(&platform).await?;
            doors.extend(tenant::doors(&platform).await?);
            doors.extend(services::doors(&platform).await?);
            doors.extend(job::doors(&platform).await?);
            doors.extend(local::doors(&platform).await?);
            anyhow::Ok(doors)
        })?;
        doors.extend(uploads::doors(&platform, &python)?);
        Ok(doors)
    });
    if !keep {
        step("stop the attacked platform", || platform.stop())?;
    }
    report(&doors?)
}

fn report(doors: &[Door]) -> anyhow::Result<()> {
    for door in doors {
        let verdict = if door.open.is_empty() { "holds" } else { "OPEN" };
        println!("{verdict:6} {:4} attempts  {}", door.attempts, door.name);
        for open in &door.open {
            println!("                        {open}");
        }
        if let Some(why) = &door.left_out {
            println!("                        left out: {why}");
        }
    }
    let open: Vec<&str> =
        doors.iter().filter(|door| !door.open.is_empty()).map(|door| door.name.as_str()).collect();
    anyhow::ensure!(open.is_empty(), "{} of {} doors are open: {}", open.len(), doors.len(), open.join(", "));
    println!("{} passed, 0 failed", doors.len());
    Ok(())
}
