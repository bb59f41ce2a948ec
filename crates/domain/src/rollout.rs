//! How a new version takes over: canary steps, analysis at each, promotion, and rollback from anywhere.
//!
//! [`step`] is the whole state machine. It knows the time only from its argument and computes each deadline from a stored
//! timestamp, so a restart re-times nothing. Acting on the returned actions twice is harmless; forgetting to act on them is
//! healed by the next step, because an [`Observation`] says whether the traffic table is what the state asks for.

mod alias;
mod analysis;
mod facts;
mod judged;
mod shift;
mod state;
mod step;
mod strategy;
mod table;

pub use alias::{AliasDecision, AliasMoved, follow_alias};
pub use analysis::{Analysed, Clause, ClauseName, Evidence, Verdict, analyse};
pub use facts::{FactsCollector, RecordFacts, Side, VariantFacts, WindowFacts};
pub use judged::NotJudged;
pub use shift::{Prediction, ShiftFacts};
pub use state::{
    Action, Command, EventKind, Intent, NewRollout, Observation, Phase, Readiness, Refused, Rollout,
    TableState,
};
pub use step::{PROPAGATION_TIMEOUT_MS, step};
pub use strategy::{Analysis, CanaryStep, MAX_STEPS, Strategy};
pub use table::plan_table;

#[cfg(test)]
mod tests;
