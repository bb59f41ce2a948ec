//! What was found, and what to do about it.

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// As it has to be.
    Ok,
    /// The platform works, with a restriction or a risk.
    Warn,
    /// The platform does not work.
    Fail,
}

impl Level {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        }
    }
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was checked, e.g. `postgres version`.
    pub check: String,
    /// What was found.
    pub found: String,
    /// What to do; absent if everything is right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    /// Everything is right.
    pub fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self { level: Level::Ok, check: check.into(), found: found.into(), advice: None }
    }

    /// A restriction or a risk.
    pub fn warn(check: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Warn, check: check.into(), found: found.into(), advice: Some(advice.into()) }
    }

    /// The platform does not work.
    pub fn fail(check: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Fail, ..Self::warn(check, found, advice) }
    }

    /// Right or not.
    pub(crate) fn of(
        right: bool,
        level: Level,
        check: &str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        if right { Self::ok(check, found) } else { Self { level, ..Self::warn(check, found, advice) } }
    }
}

/// The worst level of all findings.
pub fn worst(findings: &[Finding]) -> Level {
    findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
}
