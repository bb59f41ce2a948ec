//! `slipway models report`, `reports`, `approve`, `withdraw` and `approvals`.

use clap::Args;
use slipway_api::rest::registry::{NewApproval, ReportsQuery};

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

/// See `slipway models report --help`.
#[derive(Debug, Args)]
pub struct Report {
    #[command(flatten)]
    of: Version,
    /// JSON or YAML file with the report, e.g. {"name": "holdout", "dataset": {"name": "cancer", "digest":
    /// "d1"}, "rows": 400, "metrics": {"accuracy": 0.93}}, or `-` for standard input.
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
    let Version { model, version } = &options.of;
    let answer = context.registry()?.add_report(model, version, &body).await?;
    if context.json {
        output::json(&answer);
        return Ok(());
    }
    outln!("report {} of {model} {version}", answer.summary.id);
    if !answer.summary.gaps.is_empty() {
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
    let page = options.paging.page();
    let query = ReportsQuery { name: options.name.clone(), limit: page.limit, page_token: page.page_token };
    let answer = context.registry()?.reports(&options.of.model, &options.of.version, &query).await?;
    let columns =
        [("ID", "id"), ("NAME", "name"), ("DATA", "dataset.name"), ("ROWS", "rows"), ("METRICS", "metrics")];
    output::list(context.json, &answer, "reports", &columns);
    Ok(())
}

pub(super) async fn approve(context: &Context, options: &Approve) -> anyhow::Result<()> {
    let new = NewApproval { by: Some(options.by.clone()), comment: options.comment.clone() };
    let answer = context.registry()?.approve(&options.of.model, &options.of.version, &new).await?;
    if context.json {
        output::json(&answer);
    } else {
        outln!("{} approved {} {}", options.by, options.of.model, options.of.version);
    }
    Ok(())
}

pub(super) async fn withdraw(context: &Context, options: &Withdraw) -> anyhow::Result<()> {
    let Version { model, version } = &options.of;
    context.registry()?.withdraw_approval(model, version, &options.by).await?;
    outln!("{} withdrew the approval of {} {}", options.by, options.of.model, options.of.version);
    Ok(())
}

pub(super) async fn approvals(context: &Context, options: &Approvals) -> anyhow::Result<()> {
    let Version { model, version } = &options.of;
    let answer = context.registry()?.approvals(model, version, &options.paging.page()).await?;
    let columns = [("BY", "by"), ("COMMENT", "comment"), ("AT", "at_unix_ms")];
    output::list(context.json, &answer, "approvals", &columns);
    Ok(())
}
