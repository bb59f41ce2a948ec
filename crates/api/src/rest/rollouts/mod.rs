//! The rollout controller: deployments, rollouts and their decisions.

mod decision;
mod deployment;
mod drill;
mod query;
mod rollout;
mod strategy;
mod traffic;

pub use self::decision::{
    Clause, ClauseName, Decision, Decisions, Evidence, NotJudged, RecordFacts, ShiftFacts, VariantFacts,
    Verdict, WindowFacts,
};
pub use self::deployment::{
    Acknowledgement, Deployment, DeploymentPatch, Deployments, KillSwitchRequest, LaggingReplica,
    NewDeployment, Notice, ReplicaState, RollbackRequest, RulesRequest, ServingReplica,
};
pub use self::drill::{
    Drill, DrillFault, DrillMissing, DrillPhase, DrillRequest, DrillSide, DrillTarget, RecordedRequests,
    Replayed,
};
pub use self::query::RolloutsQuery;
pub use self::rollout::{
    AwaitedReplica, CommandRequest, NewRollout, Phase, Rollout, RolloutCommand, Rollouts,
};
pub use self::strategy::{Analysis, CanaryStep, Strategy};
pub use self::traffic::{
    Condition, KillMode, KillSwitch, Rule, Shadow, StickyKey, Target, TrafficTable, Variant, Weighted,
};
