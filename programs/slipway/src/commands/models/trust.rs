//! The commands of `slipway models` that make a version trusted.

use clap::Subcommand;

use super::{reports, signing};
use crate::commands::context::Context;

/// See `slipway models --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Signs a version with a private key, which never leaves this machine (OpenSSF Model Signing v1.0).
    Sign(signing::Sign),
    /// Verifies the signature of a version. Exit code 0 if a trusted key signed it, 1 otherwise.
    Verify(signing::Verify),
    /// Manages the keys and certificates whose signatures the registry trusts.
    #[command(subcommand)]
    Keys(signing::Keys),
    /// Adds a validation report to a version: metrics, latency, and metrics per segment. Reports are
    /// immutable.
    Report(reports::Report),
    /// Lists the reports of a version, newest first.
    Reports(reports::Reports),
    /// Approves a version.
    Approve(reports::Approve),
    /// Withdraws an approval.
    Withdraw(reports::Withdraw),
    /// Lists the approvals of a version.
    Approvals(reports::Approvals),
}

pub(super) async fn run(context: &Context, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Sign(options) => signing::sign_version(context, &options).await,
        Command::Verify(options) => signing::verify_version(context, &options).await,
        Command::Keys(command) => signing::keys(context, command).await,
        Command::Report(options) => reports::report(context, &options).await,
        Command::Reports(options) => reports::reports(context, &options).await,
        Command::Approve(options) => reports::approve(context, &options).await,
        Command::Withdraw(options) => reports::withdraw(context, &options).await,
        Command::Approvals(options) => reports::approvals(context, &options).await,
    }
}
