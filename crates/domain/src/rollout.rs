//! How a new version takes over: canary steps, analysis at each, promotion, and rollback from anywhere.
//!
//! [`step`] is the whole state machine. It knows the time only from its argument and computes each deadline
//! from a stored timestamp, so a restart re-times nothing. Acting on the returned actions twice is harmless;
//! forgetting to act on them is healed by the next step, because an [`Observation`] says whether the traffic
//! table is what the state asks for.

mod action;
mod alias;
mod analysis;
mod clause;
mod command;
pub mod drill;
mod facts;
mod judged;
mod observation;
mod shift;
mod side;
mod state;
mod step;
mod strategy;
mod table;

pub use action::{Action, EventKind, Intent};
pub use alias::{AliasDecision, AliasMoved, follow_alias};
pub use analysis::{Analysed, Evidence, analyse};
pub use clause::{Clause, ClauseName, NotJudged, Verdict};
pub use command::{Command, Refused};
pub use facts::{FactsCollector, RecordFacts, VariantFacts, WindowFacts};
pub use observation::{Observation, Readiness, TableState};
pub use shift::{Prediction, ShiftFacts};
pub use side::Side;
pub use state::{NewRollout, Phase, Rollout};
pub use step::{PROPAGATION_TIMEOUT_MS, step};
pub use strategy::{Analysis, CanaryStep, MAX_STEPS, Strategy};
pub use table::plan_table;

#[cfg(test)]
mod tests;
