//! `slipway registry import`: options, progress and result of an import from MLflow.

use std::future::Future;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use serde_json::{Map, Value, json};
use slipway_mlflow_import::{ConfigError, Importer, Kind, Progress, Registry, Summary};

use crate::connection::Connection;
use crate::location::Location;
use crate::output::{self, errln, outln};
use crate::token;

/// Concurrent requests to each of the two servers.
const DEFAULT_CONCURRENCY: u16 = 8;
/// MLflow's server stalls on its own database connections beyond this.
const MAX_CONCURRENCY: i64 = 64;
/// Time between two lines of progress; a terminal's line is rewritten more often.
const PROGRESS_INTERVAL_MS: u64 = 5_000;
const TERMINAL_INTERVAL_MS: u64 = 500;
const CLEAR_LINE: &[u8] = b"\r\x1b[K";
/// Failures printed one by one; JSON has all of them.
const MAX_SHOWN_FAILURES: usize = 50;

/// Options of the import.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Address of the MLflow server, e.g. http://old:5000.
    #[arg(long, value_name = "URL")]
    from: String,
    /// Address of the registry [default: the platform in --data-dir].
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// Only this experiment with its runs and logged models; copies no registered models unless --model is
    /// given. Can be repeated.
    #[arg(long, value_name = "NAME")]
    experiment: Vec<String>,
    /// Only this registered model with its versions; copies no experiments unless --experiment is given. Can
    /// be repeated.
    #[arg(long, value_name = "NAME")]
    model: Vec<String>,
    /// Skips artifacts, and the model versions that require them.
    #[arg(long)]
    no_artifacts: bool,
    /// Shows what would be copied and writes nothing.
    #[arg(long)]
    dry_run: bool,
    /// Maximum concurrent requests to each of the two servers.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_CONCURRENCY)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=MAX_CONCURRENCY))]
    concurrency: u16,
}

pub(crate) async fn run(connection: &Connection, options: Options) -> anyhow::Result<ExitCode> {
    // The token of this machine's administrator is for this machine's registry alone.
    let location = match &options.to {
        Some(_) => None,
        None => Some(Location::find(connection).await?),
    };
    let registry = match (options.to, &location) {
        (None, Some(location)) => Registry {
            address: location.endpoints.url("registry")?.to_owned(),
            token: location.token.clone(),
        },
        (address, _) => Registry { address: address.unwrap_or_default(), token: token::own() },
    };
    let dry_run = options.dry_run;
    let selection = slipway_mlflow_import::Options {
        source: options.from,
        experiments: options.experiment,
        models: options.model,
        skip_artifacts: options.no_artifacts,
        dry_run,
        concurrency: options.concurrency,
    };
    let importer = Importer::new(selection, &registry).map_err(invalid_options)?;
    with_progress(importer.run(), || line(&importer.progress())).await?;
    let summary = importer.summary();
    if connection.json {
        output::json(&json(&summary, dry_run));
    } else {
        print(&summary, dry_run);
    }
    Ok(if summary.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Names the option that is invalid.
fn invalid_options(error: ConfigError) -> anyhow::Error {
    match error {
        ConfigError::Source(cause) => anyhow!(cause).context("--from"),
        ConfigError::Registry(cause) => anyhow!(cause).context("--to"),
        ConfigError::SameServer(address) => {
            anyhow!("--from and the registry are the same server: {address}")
        }
    }
}

/// Awaits the work, and prints progress to standard error whenever it has changed.
async fn with_progress<T>(work: impl Future<Output = T>, line: impl Fn() -> String) -> T {
    let terminal = std::io::stderr().is_terminal();
    let interval_ms = if terminal { TERMINAL_INTERVAL_MS } else { PROGRESS_INTERVAL_MS };
    let mut ticks = tokio::time::interval(Duration::from_millis(interval_ms));
    let (mut work, mut shown) = (std::pin::pin!(work), String::new());
    loop {
        tokio::select! {
            outcome = &mut work => {
                if terminal {
                    output::raw_error(CLEAR_LINE);
                }
                return outcome;
            }
            _ = ticks.tick() => {
                let now = line();
                if now != shown {
                    show(terminal, &now);
                    shown = now;
                }
            }
        }
    }
}

fn show(terminal: bool, line: &str) {
    if terminal {
        output::raw_error(&[CLEAR_LINE, line.as_bytes()].concat());
    } else {
        errln!("{line}");
    }
}

/// Progress on one line; empty while nothing was found.
fn line(progress: &Progress) -> String {
    let found = progress.counts.iter().filter(|(_, counts)| counts.found > 0);
    let mut parts: Vec<String> =
        found.map(|(kind, counts)| format!("{} {}/{}", kind.name(), counts.done(), counts.found)).collect();
    if progress.bytes_copied > 0 {
        parts.push(output::size(progress.bytes_copied));
    }
    parts.join(" · ")
}

/// Prints the result for people.
fn print(summary: &Summary, dry_run: bool) {
    let copied = if dry_run { "TO COPY" } else { "COPIED" };
    let rows: Vec<Vec<String>> = summary
        .progress
        .counts
        .iter()
        .map(|(kind, counts)| {
            let numbers = [counts.found, counts.copied, counts.skipped, counts.failed];
            [kind.name().to_owned()].into_iter().chain(numbers.map(|number| number.to_string())).collect()
        })
        .collect();
    output::table(&["KIND", "FOUND", copied, "SKIPPED", "FAILED"], &rows);
    for note in &summary.notes {
        outln!("note: {note}");
    }
    for failure in summary.failures.iter().take(MAX_SHOWN_FAILURES) {
        outln!("failed: {} {}: {}", failure.kind.name(), failure.object, failure.reason);
    }
    if let Some(more) = summary.failures.len().checked_sub(MAX_SHOWN_FAILURES).filter(|more| *more > 0) {
        outln!("failed: … and {more} more; --json lists all of them");
    }
    let files = output::size(summary.progress.bytes_copied);
    match (&summary.stopped, summary.copied()) {
        (Some(reason), _) => {
            outln!("stopped early: {reason}; run the same command again to continue from here");
        }
        (None, 0) if summary.failures.is_empty() => outln!("nothing to copy: the registry has everything"),
        (None, _) if dry_run => outln!("nothing was written; to copy: {files} of files"),
        (None, _) => outln!("copied {files} of files"),
    }
}

/// The result for scripts.
fn json(summary: &Summary, dry_run: bool) -> Value {
    let name = |kind: Kind| kind.name().replace(' ', "_");
    let counts: Map<String, Value> = summary
        .progress
        .counts
        .iter()
        .map(|(kind, counts)| {
            let body = json!({
                "found": counts.found, "copied": counts.copied, "skipped": counts.skipped,
                    "failed": counts.failed,
            });
            (name(*kind), body)
        })
        .collect();
    let failures: Vec<Value> = summary
        .failures
        .iter()
        .map(|failure| json!({"kind": failure.kind.name(), "what": failure.object, "why": failure.reason}))
        .collect();
    json!({
        "dry_run": dry_run, "counts": counts, "bytes_copied": summary.progress.bytes_copied,
        "failures": failures, "notes": summary.notes, "stopped": summary.stopped,
    })
}

#[cfg(test)]
mod tests {
    use slipway_mlflow_import::{Counts, FailedObject};

    use super::*;

    fn summary() -> Summary {
        let mut counts = Kind::ALL.map(|kind| (kind, Counts::default()));
        counts[1].1 = Counts { found: 3, copied: 1, skipped: 1, failed: 0 };
        counts[2].1 = Counts { found: 1, failed: 1, ..Counts::default() };
        let progress = Progress { counts, bytes_copied: 1_234_567 };
        let failure = FailedObject { kind: Kind::LoggedModels, object: "m-1".into(), reason: "gone".into() };
        Summary { progress, failures: vec![failure], notes: vec!["a note".into()], stopped: None }
    }

    #[test]
    fn progress_shows_how_many_of_the_found_objects_are_done() {
        let empty = Progress { counts: Kind::ALL.map(|kind| (kind, Counts::default())), bytes_copied: 0 };
        assert_eq!(line(&empty), "");
        assert_eq!(line(&summary().progress), "runs 2/3 · logged models 1/1 · 1.2 MB");
        assert_eq!((output::size(999), output::size(2_000_000_000)), ("999 bytes".into(), "2.0 GB".into()));
    }

    #[test]
    fn scripts_get_every_count_failure_and_note() {
        let shown = json(&summary(), false);
        assert_eq!(
            shown["counts"]["logged_models"],
            json!({"found": 1, "copied": 0, "skipped": 0, "failed": 1})
        );
        assert_eq!(shown["failures"], json!([{"kind": "logged models", "what": "m-1", "why": "gone"}]));
        assert_eq!((&shown["notes"], &shown["bytes_copied"]), (&json!(["a note"]), &json!(1_234_567)));
        assert_eq!((&shown["stopped"], &shown["dry_run"]), (&Value::Null, &json!(false)));
    }

    #[tokio::test]
    async fn an_invalid_address_names_its_option() {
        let options = |from: &str, to: &str| Options {
            from: from.to_owned(),
            to: Some(to.to_owned()),
            experiment: vec![],
            model: vec![],
            no_artifacts: false,
            dry_run: false,
            concurrency: 1,
        };
        let kube = crate::connection::KubeOptions::default();
        let connection = Connection { data_dir: "/nonexistent".into(), json: false, kube };
        for (from, to, expected) in [
            ("old:5000", "http://new:5000", "--from: expected an http or https URL"),
            ("old", "http://new:5000", "--from: expected a URL"),
            ("http://old:5000", "file:///x", "--to: expected an http or https URL"),
            ("http://old:5000", "http://old:5000/", "--from and the registry are the same server"),
        ] {
            let error = format!("{:#}", run(&connection, options(from, to)).await.unwrap_err());
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
