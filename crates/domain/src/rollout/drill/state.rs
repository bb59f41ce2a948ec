//! A drill and what came of it so far.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::counts::DrillCounts;
use super::request::DrillRequest;
use crate::Invalid;
use crate::rollout::{Clause, Verdict};
use crate::traffic::{self, DrillTarget, Replay, Target};

/// A drill. Stored as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drill {
    /// Identity.
    pub id: String,
    /// What was asked for.
    pub request: DrillRequest,
    /// The stable version, which is rehearsed.
    pub version: Target,
    /// The replica that replays recorded requests, where they are.
    #[serde(default)]
    pub replayed_by: Option<String>,
    /// Unix time in milliseconds.
    pub began_at_unix_ms: u64,
    /// When it is over, Unix time in milliseconds.
    pub ends_at_unix_ms: u64,
    /// What was counted, by run of a replica: one that was restarted counts from 0 again.
    #[serde(default)]
    pub counted: BTreeMap<String, DrillCounts>,
    /// What the analysis says of what was counted.
    #[serde(default)]
    pub verdict: Option<DrillVerdict>,
    /// When the analysis failed the rehearsed version first.
    #[serde(default)]
    pub noticed: Option<Noticed>,
    /// How it ended; `None` while it runs.
    #[serde(default)]
    pub ended: Option<DrillEnded>,
}

/// What the analysis says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillVerdict {
    /// The verdict.
    pub verdict: Verdict,
    /// The clauses that decided, in words.
    pub reason: String,
    /// Every clause.
    #[serde(default)]
    pub clauses: Vec<Clause>,
}

/// The analysis failed the rehearsed version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noticed {
    /// Time since the drill began, in milliseconds.
    pub after_ms: u64,
    /// The clauses that failed, in words.
    pub reason: String,
}

/// The end of a drill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillEnded {
    /// Unix time in milliseconds.
    pub at_unix_ms: u64,
    /// How.
    pub how: DrillEnd,
    /// Why, where it did not run to its end.
    #[serde(default)]
    pub reason: String,
}

/// How a drill ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrillEnd {
    /// Its time was over, or all recorded requests were replayed.
    Completed,
    /// A client stopped it.
    Stopped,
    /// Something else needs the deployment: a rollout, the kill switch, its deletion.
    Interrupted,
}

/// What a drill begins with.
#[derive(Debug, Clone)]
pub struct NewDrill<'new> {
    /// Identity.
    pub id: String,
    /// The deployment.
    pub deployment: &'new str,
    /// Its stable version.
    pub version: Target,
    /// A replica that answers for it, for recorded requests.
    pub replica: Option<String>,
}

impl Drill {
    /// Begins a drill.
    ///
    /// # Errors
    /// The request means nothing, or users' requests would meet a fault that was not confirmed.
    pub fn begin(request: DrillRequest, new: NewDrill<'_>, now_unix_ms: u64) -> Result<Self, Invalid> {
        let NewDrill { id, deployment, version, replica } = new;
        request.validate(deployment)?;
        let replayed_by = match (request.records, replica) {
            (None, _) => None,
            (Some(_), Some(replica)) => Some(replica),
            (Some(_), None) => {
                let message = "no serving replica of the deployment reports, and one has to send them";
                return Err(Invalid::new("records", message));
            }
        };
        let ends_at_unix_ms = now_unix_ms.saturating_add(u64::from(request.seconds()) * 1_000);
        Ok(Self {
            id,
            request,
            version,
            replayed_by,
            began_at_unix_ms: now_unix_ms,
            ends_at_unix_ms,
            counted: BTreeMap::new(),
            verdict: None,
            noticed: None,
            ended: None,
        })
    }

    /// What replicas do for it, for the traffic table.
    pub fn in_table(&self) -> traffic::Drill {
        let replay = self.request.records.zip(self.replayed_by.clone()).map(|(records, replica_id)| Replay {
            replica_id,
            last: records.last,
            requests_per_second: records.requests_per_second,
        });
        traffic::Drill {
            id: self.id.clone(),
            fault: self.request.fault(),
            replay,
            target: self.request.target,
            percent: self.request.percent(),
            ends_at_unix_ms: self.ends_at_unix_ms,
        }
    }

    /// Whether users' requests meet the fault.
    pub fn is_against_users(&self) -> bool {
        self.request.target == DrillTarget::Answers
    }

    /// What all replicas counted.
    pub fn counts(&self) -> DrillCounts {
        let mut sum = DrillCounts::default();
        self.counted.values().for_each(|counts| sum.add(counts));
        sum
    }

    /// How long it ran, in seconds.
    fn ran_s(&self) -> u64 {
        let until = self.ended.as_ref().map_or(self.ends_at_unix_ms, |ended| ended.at_unix_ms);
        until.min(self.ends_at_unix_ms).saturating_sub(self.began_at_unix_ms) / 1_000
    }

    /// What came of it, in one sentence.
    pub fn summary(&self) -> String {
        let seen = self.counts().rehearsed;
        let requests = seen.answered + seen.failures();
        let found = match (&self.noticed, &self.verdict) {
            (Some(noticed), _) => format!(
                "the analysis fails this version after {:.0} s: {}",
                noticed.after_ms as f64 / 1_000.0,
                noticed.reason
            ),
            (None, _) if self.ended.is_none() => {
                format!("the analysis has not failed this version so far, over {requests} requests")
            }
            (None, _) if requests == 0 => format!("no request was rehearsed in {} s", self.ran_s()),
            (None, Some(DrillVerdict { verdict: Verdict::Pass, reason, .. })) => {
                format!("the analysis passes this version: {reason}")
            }
            (None, verdict) => {
                let reason = verdict.as_ref().map(|verdict| format!(": {}", verdict.reason));
                format!(
                    "the analysis did not fail this version in {} s{}",
                    self.ran_s(),
                    reason.unwrap_or_default()
                )
            }
        };
        match &self.ended {
            Some(DrillEnded { how: DrillEnd::Completed, .. }) | None => found,
            Some(ended) => format!("{found}; it ended early: {}", ended.reason),
        }
    }
}
