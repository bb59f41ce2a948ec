//! What came of a verification.

use serde::{Deserialize, Serialize};

use crate::compare::Difference;

/// How a signature stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// There is none.
    Unsigned,
    /// Made with a trusted key, over exactly these files.
    Valid,
    /// Made with a key that is not trusted.
    UntrustedKey,
    /// The files, or what was signed, are not what the signer saw.
    Mismatch,
    /// It cannot be verified here.
    NotVerifiable,
    /// It is no signature of a model.
    Malformed,
}

impl State {
    /// As it stands in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unsigned => "unsigned",
            Self::Valid => "valid",
            Self::UntrustedKey => "untrusted_key",
            Self::Mismatch => "mismatch",
            Self::NotVerifiable => "not_verifiable",
            Self::Malformed => "malformed",
        }
    }
}

/// How a signature stands, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// In a word.
    pub state: State,
    /// Name of the trusted key or roots that it was verified with.
    pub key: Option<String>,
    /// Who signed: the subject of a certificate, or the fingerprint of a key.
    pub signer: Option<String>,
    /// In a sentence.
    pub detail: String,
    /// Files that are not what the signer saw, the first hundred of them.
    pub differences: Vec<Difference>,
}

impl Verdict {
    /// For what has no signature.
    pub fn unsigned() -> Self {
        Self::told(State::Unsigned, "it has no signature")
    }

    /// Without a key and without differences.
    pub fn told(state: State, detail: impl Into<String>) -> Self {
        Self { state, key: None, signer: None, detail: detail.into(), differences: Vec::new() }
    }
}
