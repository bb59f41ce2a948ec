//! What a run of the demo resulted in.

use serde::Serialize;
use serde_json::{Value, json};

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
    /// The story went well only where no request failed and none was answered by a version that was not to
    /// answer.
    pub(crate) fn require_success(self) -> anyhow::Result<()> {
        anyhow::ensure!(self.failed == 0, "{} of {} requests failed", self.failed, self.sent);
        anyhow::ensure!(
            self.wrong_version == 0,
            "{} answers came from a version that was not to answer",
            self.wrong_version
        );
        Ok(())
    }

    /// The report as JSON.
    pub(crate) fn as_json(&self) -> Value {
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
