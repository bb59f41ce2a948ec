//! Objects that were applied, and what they were made from.

use std::time::{Duration, Instant};

use slipway_kubernetes_resources::model_deployment::ModelDeployment;
use slipway_kubernetes_serving::Situation;

use super::children::Marks;

/// A watch tells within this time of an object that was applied.
const WATCH_LAG: Duration = Duration::from_secs(5);

/// What objects are made from: where it is the same, they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Basis {
    /// The ModelDeployment; empty for the pool of a namespace.
    uid: String,
    generation: i64,
    pub(super) situation: Situation,
}

impl Basis {
    pub(super) fn of(object: &ModelDeployment, situation: Situation) -> Self {
        Self { uid: object.uid().to_owned(), generation: object.generation(), situation }
    }
}

/// Objects that were applied.
#[derive(Debug, Clone)]
pub(super) struct Applied {
    pub(super) basis: Basis,
    pub(super) marks: Marks,
    pub(super) at: Instant,
}

impl Applied {
    /// Whether the watches may not have told of it yet.
    pub(super) fn is_recent(&self) -> bool {
        self.at.elapsed() < WATCH_LAG
    }
}

/// What came of applying objects.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Built {
    /// They are as they are to be.
    Same,
    /// They were applied, and the watches have not told of it yet.
    Changed,
    /// They cannot be applied as the spec is.
    Refused(String),
}
