//! `slipway lint`: manifests against the schemas of this release, without a cluster.

mod files;
mod formats;

use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, ValueEnum};
use slipway_manifest_lint::{Definitions, Report, lint};

use crate::connection::Connection;
use crate::output::errln;

/// See `slipway lint --help`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each error has FILE:LINE:COLUMN, the field, the value and what was expected. Objects of other kinds are \
passed over with a note. Validation rules in CEL are evaluated, except for those that compare an object \
with its earlier state. A cluster may reject more: names that exist, quotas, admission policies.\n\n\
Exit codes: 0 no errors, 1 errors in manifests, or a file cannot be read.\n\n\
Examples:\n  \
slipway lint model.yaml jobs/\n  \
kustomize build overlays/production | slipway lint -\n  \
slipway lint --format github deploy/")]
pub struct Options {
    /// Manifests in YAML or JSON, folders with *.yaml, *.yml and *.json, or `-` for standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// Form of the output. --json is the same as --format json.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One line per error.
    Text,
    /// One document.
    Json,
    /// Annotations of GitHub Actions.
    Github,
    /// A Code Quality report of GitLab.
    Gitlab,
}

/// A file with its report.
struct Checked {
    file: String,
    report: Report,
}

pub(crate) fn run(connection: &Connection, options: &Options) -> anyhow::Result<ExitCode> {
    let definitions = Definitions::of_this_release().map_err(anyhow::Error::msg)?;
    let files = files::listed(&options.files)?;
    if files.is_empty() {
        bail!(
            "no manifests: expected files that end with .yaml, .yml or .json in {}",
            options.files.join(", ")
        );
    }
    let mut checked = Vec::new();
    for (file, documents_are) in files {
        let report = lint(&files::read(&file)?, documents_are, &definitions);
        checked.push(Checked { file, report });
    }
    match if connection.json { Format::Json } else { options.format } {
        Format::Text => formats::text(&checked),
        Format::Json => formats::json(&checked),
        Format::Github => formats::github(&checked),
        Format::Gitlab => formats::gitlab(&checked),
    }
    let errors: usize = checked.iter().map(|file| file.report.errors.len()).sum();
    let objects: usize = checked.iter().map(|file| file.report.checked).sum();
    errln!("{}", formats::summary(checked.len(), objects, errors));
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
