//! Fault drills.

use serde::{Deserialize, Serialize};
use slipway_domain::rollout::drill as domain;
use slipway_domain::traffic;
use utoipa::ToSchema;
use uuid::Uuid;

use super::decision::{Clause, Verdict};
use crate::rest::convert::{each, mirror, mirror_enum, option};

/// A drill: a fault, or recorded requests, and who meets it. Either `fault` or `records` is required.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DrillRequest {
    /// Failure that the copies of requests meet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<DrillFault>,
    /// For the fault `latency`: time by which answers take longer, in milliseconds, 1 to 60000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u64>,
    /// Recorded requests that are sent to a copy of the stable version, whose answers are compared with the
    /// recorded ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<RecordedRequests>,
    /// Who meets the fault [default: copies].
    pub target: DrillTarget,
    /// Name of the deployment; required if the target is answers, so that it is said twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirm: Option<String>,
    /// Percentage of the copies that meet the fault, 1 to 100 [default: 100]. If the target is answers, the
    /// percentage of users' requests, and required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// How long it runs, in seconds, 1 to 3600 [default: 60].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u32>,
}

/// A failure of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DrillFault {
    /// The model does not load.
    NotLoading,
    /// The artifact store is unreachable while the version loads.
    StorageGone,
    /// Memory runs out while the version loads.
    OutOfMemory,
    /// The model fails.
    Errors,
    /// Answers take longer.
    Latency,
}

/// Who meets the fault of a drill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DrillTarget {
    /// Copies of answered requests; no client sees their answers.
    #[default]
    Copies,
    /// Users' requests.
    Answers,
}

/// Which recorded requests are sent, and how fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RecordedRequests {
    /// Number of the newest recorded requests, 1 to 100000 [default: 1000].
    pub last: u32,
    /// Number that is sent each second, 1 to 1000 [default: 10].
    pub requests_per_second: u32,
}

impl Default for RecordedRequests {
    fn default() -> Self {
        domain::RecordedRequests::default().into()
    }
}

/// A drill and its report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Drill {
    /// ID.
    pub id: Uuid,
    /// Deployment.
    pub deployment: String,
    /// Stable version, copies of which are rehearsed.
    pub version: String,
    /// What was asked for.
    pub request: DrillRequest,
    /// Whether it runs, or how it ended.
    pub phase: DrillPhase,
    /// Why it ended early.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The result in one sentence.
    pub summary: String,
    /// When it began, Unix time in milliseconds.
    pub began_at_unix_ms: u64,
    /// When it ends or would have ended, Unix time in milliseconds.
    pub ends_at_unix_ms: u64,
    /// When it ended, Unix time in milliseconds; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at_unix_ms: Option<u64>,
    /// Time after which the analysis of the deployment's default strategy failed the rehearsed version, in
    /// milliseconds; absent where it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noticed_after_ms: Option<u64>,
    /// What the analysis says of all that was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// The limits that were checked.
    pub clauses: Vec<Clause>,
    /// For faults of loading: what a rollout does about them before any analysis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub while_loading: Option<String>,
    /// Requests of the rehearsed version: copies, or users' requests that met the fault.
    pub rehearsed: DrillSide,
    /// Users' requests to the stable version meanwhile, without those that met the fault.
    pub users: DrillSide,
    /// Copies that were not made, so that users' requests did not wait for them: `busy`; or `ensemble`:
    /// ensembles are not copied.
    pub dropped: Vec<DrillMissing>,
    /// Rows whose answers were compared.
    pub compared_rows: u64,
    /// Rows whose answers differ.
    pub differing_rows: u64,
    /// Progress of the replay of recorded requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replayed: Option<Replayed>,
}

/// Phase of a drill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DrillPhase {
    /// It runs.
    Running,
    /// It ran to its end.
    Completed,
    /// A client stopped it.
    Stopped,
    /// A rollout, the kill switch or the deletion of the deployment ended it.
    Interrupted,
}

impl DrillPhase {
    /// As JSON has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Stopped => "stopped",
            Self::Interrupted => "interrupted",
        }
    }
}

impl std::fmt::Display for DrillPhase {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Requests, and how they ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrillSide {
    /// Requests that ended.
    pub requests: u64,
    /// Requests that were answered with NaN or an infinity.
    pub non_finite: u64,
    /// Requests that failed.
    pub failed: Vec<DrillMissing>,
    /// Median latency of the answered ones, in microseconds.
    pub p50_latency_us: u64,
    /// 95th percentile of it, in microseconds.
    pub p95_latency_us: u64,
    /// 99th percentile of it, in microseconds.
    pub p99_latency_us: u64,
}

/// Requests that failed, or were not copied, for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrillMissing {
    /// Outcome, as the metric `slipway_serving_requests_total` has it.
    pub outcome: String,
    /// Number of requests.
    pub count: u64,
    /// Message of the last one.
    pub message: String,
}

/// Progress of a replay of recorded requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Replayed {
    /// Recorded requests that were found and can be sent.
    pub found: u64,
    /// Recorded requests that cannot be sent, because some of their values are not recorded.
    pub incomplete: u64,
    /// Whether all of them were sent.
    pub done: bool,
    /// Why none is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

mirror_enum!(DrillFault = domain::FaultKind { NotLoading, StorageGone, OutOfMemory, Errors, Latency });
mirror_enum!(DrillTarget = traffic::DrillTarget { Copies, Answers });
mirror!(RecordedRequests = domain::RecordedRequests { last, requests_per_second });
mirror!(DrillMissing = domain::Missing { outcome, count, message });
mirror!(Replayed = domain::Replayed { found, incomplete, done, problem });

impl From<domain::DrillRequest> for DrillRequest {
    fn from(request: domain::DrillRequest) -> Self {
        let domain::DrillRequest { fault, latency_ms, records, target, confirm, percent, seconds } = request;
        let (fault, records, target) = (option(fault), option(records), target.into());
        Self { fault, latency_ms, records, target, confirm, percent, seconds }
    }
}

impl From<DrillRequest> for domain::DrillRequest {
    fn from(request: DrillRequest) -> Self {
        let DrillRequest { fault, latency_ms, records, target, confirm, percent, seconds } = request;
        let (fault, records, target) = (option(fault), option(records), target.into());
        Self { fault, latency_ms, records, target, confirm, percent, seconds }
    }
}

impl From<domain::DrillSide> for DrillSide {
    fn from(side: domain::DrillSide) -> Self {
        Self {
            requests: side.answered + side.failures(),
            non_finite: side.non_finite,
            p50_latency_us: side.latencies.percentile_us(50),
            p95_latency_us: side.latencies.percentile_us(95),
            p99_latency_us: side.latencies.percentile_us(99),
            failed: each(side.failed),
        }
    }
}

impl From<domain::DrillEnd> for DrillPhase {
    fn from(end: domain::DrillEnd) -> Self {
        match end {
            domain::DrillEnd::Completed => Self::Completed,
            domain::DrillEnd::Stopped => Self::Stopped,
            domain::DrillEnd::Interrupted => Self::Interrupted,
        }
    }
}

impl Drill {
    /// Its phase and what is known for sure, in one sentence that changes only with them.
    pub fn in_words(&self) -> String {
        match (self.phase, self.noticed_after_ms) {
            (DrillPhase::Running, None) => {
                let second = self.ends_at_unix_ms / 1_000 % 86_400;
                let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
                format!("running until {hour:02}:{minute:02}:{second:02} UTC")
            }
            (phase, _) => format!("{}: {}", phase.as_str(), self.summary),
        }
    }

    /// The drill of this ID and deployment.
    pub fn of(id: Uuid, deployment: String, drill: domain::Drill) -> Self {
        let (counts, summary) = (drill.counts(), drill.summary());
        let (verdict, clauses) =
            drill.verdict.map(|found| (found.verdict.into(), each(found.clauses))).unzip();
        Self {
            id,
            deployment,
            summary,
            while_loading: domain::FaultKind::while_loading(drill.request.fault).map(str::to_owned),
            version: drill.version.version,
            request: drill.request.into(),
            phase: drill.ended.as_ref().map_or(DrillPhase::Running, |ended| ended.how.into()),
            began_at_unix_ms: drill.began_at_unix_ms,
            ends_at_unix_ms: drill.ends_at_unix_ms,
            ended_at_unix_ms: drill.ended.as_ref().map(|ended| ended.at_unix_ms),
            reason: drill.ended.map(|ended| ended.reason).unwrap_or_default(),
            noticed_after_ms: drill.noticed.map(|noticed| noticed.after_ms),
            verdict,
            clauses: clauses.unwrap_or_default(),
            rehearsed: counts.rehearsed.into(),
            users: counts.users.into(),
            dropped: each(counts.dropped),
            compared_rows: counts.compared_rows,
            differing_rows: counts.differing_rows,
            replayed: option(counts.replayed),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_body_means_what_the_same_json_means_to_the_domain() {
        for body in [
            json!({"fault": "errors", "percent": 50}),
            json!({"fault": "latency", "latency_ms": 200, "seconds": 30}),
            json!({"records": {"last": 10}}),
            json!({"fault": "out-of-memory", "target": "answers", "confirm": "churn", "percent": 1}),
        ] {
            let typed: DrillRequest = serde_json::from_value(body.clone()).unwrap();
            let meant: domain::DrillRequest = serde_json::from_value(body).unwrap();
            assert_eq!(domain::DrillRequest::from(typed), meant);
        }
    }
}
