//! The report of the demo: a table, JSON, and a page with plots.

use std::path::Path;

use anyhow::Context as _;

use super::html;
use super::outcome::Told;

/// Prints the table and writes the files.
pub(crate) fn finish(told: &Told, path: Option<&Path>) -> anyhow::Result<()> {
    print_table(told);
    let Some(path) = path else { return Ok(()) };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let report = told.as_json();
    std::fs::write(path, format!("{report:#}\n"))
        .with_context(|| format!("cannot write {}", path.display()))?;
    let page = path.with_extension("html");
    std::fs::write(&page, html::page(told)).with_context(|| format!("cannot write {}", page.display()))?;
    println!("report: {}\nplots:  {}", path.display(), page.display());
    Ok(())
}

fn print_table(told: &Told) {
    let width = told.steps.iter().map(|step| step.name.chars().count()).max().unwrap_or(0);
    println!("\n{:<width$}  {:>7}  outcome", "step", "seconds");
    for step in &told.steps {
        println!("{:<width$}  {:>7.1}  {}", step.name, step.seconds, step.outcome);
    }
    println!("\nversion  verdict      reason");
    for version in &told.versions {
        println!("{:<7}  {:<11}  {}", version.version, version.verdict, version.reason);
    }
    let promotion = told.promotion_ms.map_or_else(|| "–".to_owned(), |ms| format!("{ms} ms"));
    println!();
    println!("requests sent                                        {}", told.sent);
    println!("requests failed                                      {}", told.failed);
    println!("answers by a version that was not to answer          {}", told.wrong_version);
    println!("promotion decided → first answer by the new version  {promotion}");
    println!("rollback decided → last answer by the bad version    {} ms", told.rollback_ms);
    println!("windows from the shift to the drift verdict          {}", told.drift.windows);
}
