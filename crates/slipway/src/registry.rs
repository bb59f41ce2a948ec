//! `slipway registry`: what concerns the registry as a whole.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::Connection;
use crate::client::Client;
use crate::{Endpoints, import, output, token};

const SECONDS_PER_DAY: u64 = 24 * 3_600;
/// Runs that one request removes, so that progress shows and no request takes long.
const RUNS_AT_ONCE: u32 = 50;
const KINDS: [&str; 5] = ["runs", "logged_models", "experiments", "files", "size_bytes"];

/// See `slipway registry --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Copies everything of a running MLflow server into the registry; may be interrupted and run again.
    ///
    /// Ids of runs and logged models and the numbers of versions stay as they are. What is complete is not copied again, so
    /// running it twice copies nothing. Credentials for the MLflow server are taken from the environment, as its own client
    /// does: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN.
    Import(import::Options),
    /// Says what was deleted long enough ago to go for good; removes it with --yes.
    ///
    /// Runs go with their histories and files, then logged models, then experiments that are empty by then. A run from which a
    /// model version was made stays, and so does every file that a version pins. It may be interrupted and run again.
    Purge(Purge),
    /// Says which bytes of the bucket nothing refers to; frees them with --yes.
    ///
    /// That is what was replaced, deleted or purged, what is left of uploads that broke off, and objects that no row knows, for instance
    /// after the database was restored from a backup. It may run beside uploads, be interrupted, and run again.
    Gc(Gc),
}

/// Options of the garbage collection.
#[derive(Debug, Clone, Args)]
pub struct Gc {
    /// Only what has been garbage for so many hours. With less than a day, uploads under way may have to be repeated.
    #[arg(long, value_name = "N", default_value_t = 24)]
    grace_hours: u64,
    /// Only says what would be freed; the default.
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Frees it.
    #[arg(long)]
    yes: bool,
}

/// Options of the purge.
#[derive(Debug, Clone, Args)]
pub struct Purge {
    /// Only what was deleted at least so many days ago.
    #[arg(long, value_name = "N", default_value_t = 30)]
    older_than_days: u32,
    /// Removes it. Nothing brings it back.
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

async fn purge(connection: &Connection, options: &Purge) -> anyhow::Result<()> {
    let client = Client::new(&Endpoints::read(&connection.data_dir)?.registry)?
        .with_token(token::for_platform(&connection.data_dir));
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
            eprintln!("{} runs and {} files so far", sums[0], sums[3]);
        } else {
            show(connection.json, options.yes, sums, part["runs_kept"].as_u64());
            return Ok(());
        }
    }
}

async fn collect(connection: &Connection, options: &Gc) -> anyhow::Result<()> {
    let client = Client::new(&Endpoints::read(&connection.data_dir)?.registry)?;
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
                println!("{}  {} bytes, known to nobody", output::cell(orphan, "key"), orphan["size_bytes"]);
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
    println!(
        "{} {verb}: {loose} objects let go of, {orphans} known to nobody, of {examined} in the bucket",
        output::size(size_bytes)
    );
    if !options.yes && size_bytes > 0 {
        println!("--yes frees it");
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
        println!("{kept} deleted runs stay: model versions were made from them");
    }
    if !done {
        println!("--yes removes it");
    }
}
