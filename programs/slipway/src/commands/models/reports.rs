//! `slipway models report`, `reports`, `approve`, `withdraw` and `approvals`.

use clap::Args;
use reqwest::Method;
use serde_json::json;

use crate::commands::context::{Context, Paging, read_json};
use crate::output::{self, outln};

/// A version of a model.
#[derive(Debug, Args)]
struct Version {
    /// Registered model.
    model: String,
    /// Version number.
    version: String,
}

impl Version {
    /// The path of what belongs to it.
    fn path<'path>(&'path self, part: &'path str) -> [&'path str; 7] {
        ["api", "v1", "models", &self.model, "versions", &self.version, part]
    }
}

/// See `slipway models report --help`.
#[derive(Debug, Args)]
pub struct Report {
    #[command(flatten)]
    of: Version,
    /// JSON file with the report, e.g. {"name": "holdout", "dataset": {"name": "cancer", "digest": "d1"}, "rows": 400,
    /// "metrics": {"accuracy": 0.93}}, or `-` for standard input.
    file: String,
}

/// See `slipway models reports --help`.
#[derive(Debug, Args)]
pub struct Reports {
    #[command(flatten)]
    of: Version,
    /// Only reports of this name.
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    paging: Paging,
}

/// See `slipway models approve --help`.
#[derive(Debug, Args)]
pub struct Approve {
    #[command(flatten)]
    of: Version,
    /// Name of the approver.
    #[arg(long, value_name = "NAME")]
    by: String,
    /// Reason, kept with the approval.
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
}

/// See `slipway models withdraw --help`.
#[derive(Debug, Args)]
pub struct Withdraw {
    #[command(flatten)]
    of: Version,
    /// Name of the approver.
    #[arg(long, value_name = "NAME")]
    by: String,
}

/// See `slipway models approvals --help`.
#[derive(Debug, Args)]
pub struct Approvals {
    #[command(flatten)]
    of: Version,
    #[command(flatten)]
    paging: Paging,
}

pub(super) async fn report(context: &Context, options: &Report) -> anyhow::Result<()> {
    let body = read_json(&options.file)?;
    let answer = context.registry()?.send(Method::POST, &options.of.path("reports"), Some(&body)).await?;
    if context.json {
        output::json(&answer);
        return Ok(());
    }
    outln!("report {} of {} {}", output::cell(&answer, "id"), options.of.model, options.of.version);
    if answer["gaps"].as_array().is_some_and(|gaps| !gaps.is_empty()) {
        let columns = [
            ("ATTRIBUTE", "attribute"),
            ("METRIC", "metric"),
            ("GAP", "gap"),
            ("LEAST AT", "least_at"),
            ("GREATEST AT", "greatest_at"),
        ];
        output::list(false, &answer, "gaps", &columns);
    }
    Ok(())
}

pub(super) async fn reports(context: &Context, options: &Reports) -> anyhow::Result<()> {
    let mut query = options.paging.query();
    query.extend(options.name.clone().map(|name| ("name", name)));
    let answer = context.registry()?.get(&options.of.path("reports"), &query).await?;
    let columns =
        [("ID", "id"), ("NAME", "name"), ("DATA", "dataset.name"), ("ROWS", "rows"), ("METRICS", "metrics")];
    output::list(context.json, &answer, "reports", &columns);
    Ok(())
}

pub(super) async fn approve(context: &Context, options: &Approve) -> anyhow::Result<()> {
    let body = json!({"by": options.by, "comment": options.comment});
    let answer = context.registry()?.send(Method::POST, &options.of.path("approvals"), Some(&body)).await?;
    if context.json {
        output::json(&answer);
    } else {
        outln!("{} approved {} {}", options.by, options.of.model, options.of.version);
    }
    Ok(())
}

pub(super) async fn withdraw(context: &Context, options: &Withdraw) -> anyhow::Result<()> {
    let path = [&options.of.path("approvals")[..], &[options.by.as_str()]].concat();
    context.registry()?.send(Method::DELETE, &path, None).await?;
    outln!("{} withdrew the approval of {} {}", options.by, options.of.model, options.of.version);
    Ok(())
}

pub(super) async fn approvals(context: &Context, options: &Approvals) -> anyhow::Result<()> {
    let answer = context.registry()?.get(&options.of.path("approvals"), &options.paging.query()).await?;
    let columns = [("BY", "by"), ("COMMENT", "comment"), ("AT", "at_unix_ms")];
    output::list(context.json, &answer, "approvals", &columns);
    Ok(())
}
