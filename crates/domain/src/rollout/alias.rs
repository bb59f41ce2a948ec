//! What a move of a watched alias leads to.

use super::state::{Phase, Rollout};
use crate::traffic::Target;

/// An alias that a deployment watches was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AliasMoved<'a> {
    /// The version that it points at.
    pub to: &'a Target,
    /// Whether it pointed at this version before: it was set again without being moved.
    pub unchanged: bool,
}

/// What follows from [`AliasMoved`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AliasDecision {
    /// Roll the version out.
    Start,
    /// The rollout in progress leads away from this version: abort it.
    TurnBack,
    /// The version is stable already.
    AlreadyStable,
    /// A rollout of the version is in progress.
    InProgress,
    /// The kill switch is on: roll the version out when it is turned off.
    Pending,
    /// The newest rollout of the version was ended and the alias was not moved since: not tried again
    /// automatically.
    EndedBefore {
        /// How it ended.
        phase: Phase,
        /// Why.
        reason: String,
    },
}

/// Decides what follows when a watched alias is set. `newest` is the newest rollout of the deployment.
///
/// Setting the alias again to the version that it points at already does not retry a rollout that failed, was
/// rolled back or was aborted: pipelines set aliases repeatedly, and each run would put the same bad version
/// back on traffic. A retry is explicit: start a rollout, or move the alias away and back.
pub fn follow_alias(
    moved: AliasMoved<'_>,
    stable: Option<&Target>,
    newest: Option<&Rollout>,
    kill_switch_on: bool,
) -> AliasDecision {
    let active = newest.filter(|newest| newest.is_active());
    if active.is_some_and(|active| active.leads_away_from(moved.to)) {
        return AliasDecision::TurnBack;
    }
    if stable == Some(moved.to) && active.is_none_or(|active| active.to != *moved.to) {
        return AliasDecision::AlreadyStable;
    }
    if active.is_some_and(|active| active.leads_to(moved.to)) {
        return AliasDecision::InProgress;
    }
    if stable == Some(moved.to) {
        return AliasDecision::AlreadyStable;
    }
    let ended = newest.filter(|newest| {
        moved.unchanged
            && newest.to == *moved.to
            && newest.phase.is_final()
            && newest.phase != Phase::Promoted
    });
    match ended {
        Some(ended) => AliasDecision::EndedBefore { phase: ended.phase, reason: ended.reason.clone() },
        None if kill_switch_on => AliasDecision::Pending,
        None => AliasDecision::Start,
    }
}
