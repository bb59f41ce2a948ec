//! What the demo says at its end: a table, JSON, and a page with plots.

use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::{Value, json};

use super::html;
use super::measure::Sample;

/// One part of the story.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) seconds: f64,
    pub(crate) outcome: String,
}

/// What became of a version, and why.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Verdict {
    pub(crate) version: String,
    pub(crate) verdict: String,
    pub(crate) reason: String,
}

/// What became of the drift.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Drift {
    pub(crate) detected: bool,
    /// Windows from the shift to the verdict.
    pub(crate) windows: usize,
    #[serde(skip)]
    pub(crate) scores: Vec<Value>,
}

/// The whole story, told.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) steps: Vec<Step>,
    pub(crate) versions: Vec<Verdict>,
    pub(crate) drift: Drift,
    pub(crate) sent: u64,
    pub(crate) failed: usize,
    pub(crate) wrong_version: usize,
    pub(crate) promotion_ms: Option<u64>,
    pub(crate) rollback_ms: u64,
    pub(crate) samples: Vec<Sample>,
}

impl Told {
    /// The story went well only where no request failed and none was answered by a version that was not to answer.
    pub(crate) fn require_success(self) -> anyhow::Result<()> {
        anyhow::ensure!(self.failed == 0, "{} of {} requests failed", self.failed, self.sent);
        anyhow::ensure!(
            self.wrong_version == 0,
            "{} answers came from a version that was not to answer",
            self.wrong_version
        );
        Ok(())
    }

    fn as_json(&self) -> Value {
        json!({
            "steps": self.steps,
            "requests": {"sent": self.sent, "failed": self.failed, "wrong_version": self.wrong_version},
            "promotion_ms": self.promotion_ms,
            "rollback_ms": self.rollback_ms,
            "drift": self.drift,
            "versions": self.versions,
        })
    }
}

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
