//! The commands of `slipway models` that make a version trusted.

use clap::Subcommand;

use super::{Context, models_reports, models_signing};

/// See `slipway models --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Signs a version with a private key, which never leaves this machine (OpenSSF Model Signing v1.0).
    Sign(models_signing::Sign),
    /// Verifies the signature of a version. Exit code 0 if a trusted key signed it, 1 otherwise.
    Verify(models_signing::Verify),
    /// Manages the keys and certificates whose signatures the registry trusts.
    #[command(subcommand)]
    Keys(models_signing::Keys),
    /// Adds a validation report to a version: metrics, latency, and metrics per segment. Reports are immutable.
    Report(models_reports::Report),
    /// Lists the reports of a version, newest first.
    Reports(models_reports::Reports),
    /// Approves a version.
    Approve(models_reports::Approve),
    /// Withdraws an approval.
    Withdraw(models_reports::Withdraw),
    /// Lists the approvals of a version.
    Approvals(models_reports::Approvals),
}

pub(super) async fn run(context: &Context, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Sign(options) => models_signing::sign_version(context, &options).await,
        Command::Verify(options) => models_signing::verify_version(context, &options).await,
        Command::Keys(command) => models_signing::keys(context, command).await,
        Command::Report(options) => models_reports::report(context, &options).await,
        Command::Reports(options) => models_reports::reports(context, &options).await,
        Command::Approve(options) => models_reports::approve(context, &options).await,
        Command::Withdraw(options) => models_reports::withdraw(context, &options).await,
        Command::Approvals(options) => models_reports::approvals(context, &options).await,
    }
}
