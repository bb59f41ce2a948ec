//! `slipway registry purge`.

use clap::Args;
use serde_json::Value;
use slipway_api::rest::registry::PurgeRequest;

use crate::commands::context::Context;
use crate::output::{self, errln, outln};

const SECONDS_PER_DAY: i64 = 24 * 3_600;
/// Runs that one request removes, so that progress shows and no request takes long.
const RUNS_PER_REQUEST: i64 = 50;
const KINDS: [&str; 5] = ["runs", "logged_models", "experiments", "files", "size_bytes"];

/// Options of the purge.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Only what was deleted at least N days ago.
    #[arg(long, value_name = "N", default_value_t = 30)]
    older_than_days: u32,
    /// Purges permanently.
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn run(context: &Context, options: &Options) -> anyhow::Result<()> {
    let client = context.registry()?;
    let request = PurgeRequest {
        older_than_s: Some(i64::from(options.older_than_days) * SECONDS_PER_DAY),
        limit: options.yes.then_some(RUNS_PER_REQUEST),
        dry_run: Some(!options.yes),
    };
    let mut sums = [0_u64; KINDS.len()];
    loop {
        let part = client.purge(&request).await?;
        let counts = [part.runs, part.logged_models, part.experiments, part.files, part.size_bytes];
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum += count.unsigned_abs();
        }
        if part.more {
            errln!("{} runs and {} files so far", sums[0], sums[3]);
        } else {
            show(context.json, options.yes, sums, part.runs_kept);
            return Ok(());
        }
    }
}

fn show(as_json: bool, done: bool, sums: [u64; KINDS.len()], runs_kept: Option<i64>) {
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
