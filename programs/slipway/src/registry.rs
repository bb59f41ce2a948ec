//! `slipway registry`: import, purge and garbage collection.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::Connection;
use crate::client::Client;
use crate::output::{errln, outln};
use crate::{Endpoints, import, output, token};

const SECONDS_PER_DAY: u64 = 24 * 3_600;
/// Runs that one request removes, so that progress shows and no request takes long.
const RUNS_AT_ONCE: u32 = 50;
const KINDS: [&str; 5] = ["runs", "logged_models", "experiments", "files", "size_bytes"];

/// See `slipway registry --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Copies experiments, runs, artifacts and models of a running MLflow server into the registry.
    ///
    /// Run IDs, logged-model IDs and version numbers stay the same. The command can be interrupted and run again: what is
    /// complete is not copied again. Credentials for the MLflow server come from the environment, as for MLflow's own client:
    /// MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN.
    Import(import::Options),
    /// Shows which deleted runs and experiments are old enough to purge; with --yes, purges them permanently.
    ///
    /// Purges runs with their metrics and files, then logged models, then empty experiments. Runs that have a registered model
    /// version are kept, and so are files that a version pins. The command can be interrupted and run again.
    Purge(Purge),
    /// Shows which objects in the bucket are unreferenced; with --yes, deletes them.
    ///
    /// Unreferenced objects are those that were replaced, deleted or purged, remainders of interrupted uploads, and orphaned
    /// objects without a database row, for instance after a restore from a backup. The command can run during uploads, be
    /// interrupted, and run again.
    Gc(Gc),
}

/// Options of the garbage collection.
#[derive(Debug, Clone, Args)]
pub struct Gc {
    /// Only objects that have been unreferenced for N hours. Below 24, uploads in progress may have to be repeated.
    #[arg(long, value_name = "N", default_value_t = 24)]
    grace_hours: u64,
    /// Only shows what would be deleted (the default).
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Deletes the unreferenced objects.
    #[arg(long)]
    yes: bool,
}

/// Options of the purge.
#[derive(Debug, Clone, Args)]
pub struct Purge {
    /// Only what was deleted at least N days ago.
    #[arg(long, value_name = "N", default_value_t = 30)]
    older_than_days: u32,
    /// Purges permanently.
    #[arg(long)]
    yes: bool,
}

pub(crate) fn run(connection: &Connection, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Import(options) => import::run(connection, options),
        Command::Purge(options) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(purge(connection, &options))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Gc(options) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(collect(connection, &options))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The registry of the platform, with the caller's token.
fn registry(connection: &Connection) -> anyhow::Result<Client> {
    let client = Client::new(&Endpoints::read(&connection.data_dir)?.registry)?;
    Ok(client.with_token(token::for_platform(&connection.data_dir)))
}

async fn purge(connection: &Connection, options: &Purge) -> anyhow::Result<()> {
    let client = registry(connection)?;
    let mut body = json!({"older_than_s": u64::from(options.older_than_days) * SECONDS_PER_DAY, "dry_run": !options.yes});
    if options.yes {
        body["limit"] = RUNS_AT_ONCE.into();
    }
    let mut sums = [0_u64; KINDS.len()];
    loop {
        let part = client.send(Method::POST, &["api", "v1", "purge"], Some(&body)).await?;
        for (sum, kind) in sums.iter_mut().zip(KINDS) {
            *sum += part[kind].as_u64().unwrap_or_default();
        }
        if part["more"] == true {
            errln!("{} runs and {} files so far", sums[0], sums[3]);
        } else {
            show(connection.json, options.yes, sums, part["runs_kept"].as_u64());
            return Ok(());
        }
    }
}

async fn collect(connection: &Connection, options: &Gc) -> anyhow::Result<()> {
    let client = registry(connection)?;
    let mut body = json!({"dry_run": !options.yes, "grace_s": options.grace_hours.saturating_mul(3_600)});
    let (mut examined, mut loose, mut size_bytes, mut orphans) = (0, 0, 0, 0_u64);
    loop {
        let part = client.send(Method::POST, &["api", "v1", "gc"], Some(&body)).await?;
        let number = |name: &str| part[name].as_u64().unwrap_or_default();
        examined += number("examined");
        loose += number("loose");
        size_bytes += number("size_bytes");
        for orphan in part["orphans"].as_array().into_iter().flatten() {
            orphans += 1;
            if !connection.json {
                outln!("{}  {} bytes, orphaned", output::cell(orphan, "key"), orphan["size_bytes"]);
            }
        }
        match part.get("next_page_token") {
            Some(next) => body["page_token"] = next.clone(),
            None => break,
        }
    }
    if connection.json {
        let answer = json!({"dry_run": !options.yes, "examined": examined, "loose": loose, "orphans": orphans, "size_bytes": size_bytes});
        output::json(&answer);
        return Ok(());
    }
    let verb = if options.yes { "freed" } else { "would be freed" };
    outln!(
        "{} {verb}: {loose} unreferenced and {orphans} orphaned objects, of {examined} in the bucket",
        output::size(size_bytes)
    );
    if !options.yes && size_bytes > 0 {
        outln!("run again with --yes to free them");
    }
    Ok(())
}

fn show(as_json: bool, done: bool, sums: [u64; KINDS.len()], runs_kept: Option<u64>) {
    if as_json {
        let mut answer: Value =
            KINDS.iter().zip(sums).map(|(kind, sum)| ((*kind).to_owned(), Value::from(sum))).collect();
        answer["dry_run"] = (!done).into();
        return output::json(&answer);
    }
    let header = if done { "REMOVED" } else { "WOULD BE REMOVED" };
    let mut rows: Vec<Vec<String>> = KINDS[..4]
        .iter()
        .zip(sums)
        .map(|(kind, sum)| vec![kind.replace('_', " "), sum.to_string()])
        .collect();
    rows.push(vec!["size".to_owned(), output::size(sums[4])]);
    output::table(&["KIND", header], &rows);
    if let Some(kept) = runs_kept.filter(|kept| *kept > 0) {
        outln!("{kept} deleted runs are kept: they have registered model versions");
    }
    if !done {
        outln!("run again with --yes to remove them");
    }
}
