//! The replicas of a deployment, as its status shows them.

use slipway_api::traffic::TablesState;

use super::{Replicas, left_out, time_of_day};

/// How a replica is with a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It routes by the current table.
    Current,
    /// It does not yet.
    Behind,
    /// It is reading the current tables, and answers nothing meanwhile.
    Waiting,
    /// It answers by the last tables that it knows.
    LastKnown,
    /// It missed a report: it hangs, or is cut off from NATS.
    Silent,
}

/// One replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) replica_id: String,
    pub(crate) standing: Standing,
    /// Revision that it routes by; `None` where it has not reported on the deployment.
    pub(crate) table_revision: Option<u64>,
    /// Unix time in milliseconds of its last report, where it is silent.
    pub(crate) silent_since_unix_ms: Option<u64>,
    /// What is wrong, where something is.
    pub(crate) problem: Option<String>,
}

impl Replicas {
    /// Every replica that reported in the last 30 s, by ID; `revision` is that of the deployment's table.
    pub(crate) fn shown(&self, deployment: &str, revision: u64) -> Vec<Shown> {
        let placed = self.copies.placed(deployment);
        let shown = self.known(deployment).into_iter().map(|heard| {
            let table_revision = self.revision_of(&heard, deployment, placed.as_ref());
            let follows = table_revision.is_some_and(|followed| followed >= revision);
            let (standing, problem) = match (heard.silent_since(), heard.status.tables) {
                (Some(since), _) => (Standing::Silent, Some(left_out(&since, heard.lease()))),
                (None, TablesState::Waiting) => {
                    (Standing::Waiting, Some("reads the current traffic tables".to_owned()))
                }
                (None, TablesState::LastKnown { since_unix_ms }) => {
                    (Standing::LastKnown, Some(last_known(since_unix_ms)))
                }
                (None, TablesState::Current) if follows => (Standing::Current, None),
                (None, TablesState::Current) => {
                    let text = format!("has not taken revision {revision} of the traffic table");
                    (Standing::Behind, Some(text))
                }
            };
            let silent_since_unix_ms = (standing == Standing::Silent).then_some(heard.at_unix_ms);
            let replica_id = heard.status.replica_id.clone();
            Shown { replica_id, standing, table_revision, silent_since_unix_ms, problem }
        });
        shown.collect()
    }
}

fn last_known(since_unix_ms: u64) -> String {
    let since = match since_unix_ms {
        0 => "never since its start".to_owned(),
        since => format!("at {} UTC", time_of_day(since)),
    };
    format!("answers by the last traffic tables that it knows; they were last known to be current {since}")
}
