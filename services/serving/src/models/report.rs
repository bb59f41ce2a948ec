//! What the rollout controller is told of the deployments here: up to which place in the bucket of traffic
//! tables everything is routed, and which deployments are the exceptions.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use slipway_api::traffic::{TablesPosition, UnsettledDeployment, VersionStatus};
use tokio::sync::watch;

/// Bytes of one message that exceptions may take.
const MAX_UNSETTLED_BYTES: usize = 256 * 1024;
/// Longest reason of a version that is told.
const MAX_REASON_CHARS: usize = 500;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Report {
    told: Mutex<Told>,
    /// Whether the bucket of tables was read and has no head.
    headless: AtomicBool,
    changes: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Told {
    position: Option<TablesPosition>,
    unsettled: BTreeMap<String, Unsettled>,
}

#[derive(Debug, Clone, PartialEq)]
struct Unsettled {
    /// Where the deployment's newest table is in the bucket.
    entry_revision: u64,
    deployment: UnsettledDeployment,
}

/// What a status says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Unsettleds {
    pub(crate) position: Option<TablesPosition>,
    pub(crate) listed: Vec<UnsettledDeployment>,
    pub(crate) silent_below_revision: u64,
}

impl Report {
    /// Everything up to here is routed, or told to be an exception.
    pub(crate) fn applied(&self, position: TablesPosition) {
        self.lock().position = Some(position);
        self.changes.send_replace(());
    }

    /// The bucket was read, and has a head or not.
    pub(super) fn read(&self, has_head: bool) {
        self.headless.store(!has_head, Ordering::Release);
    }

    /// Whether whoever writes the tables may be of an earlier release: the bucket has no head.
    pub(crate) fn is_headless(&self) -> bool {
        self.headless.load(Ordering::Acquire)
    }

    /// A deployment is as its newest table says, or gone.
    pub(super) fn settled(&self, deployment: &str) {
        if self.lock().unsettled.remove(deployment).is_some() {
            self.changes.send_replace(());
        }
    }

    /// A deployment is not.
    pub(super) fn unsettled(&self, entry_revision: u64, deployment: UnsettledDeployment) {
        let name = deployment.deployment.clone();
        let now = Unsettled { entry_revision, deployment };
        let mut told = self.lock();
        if told.unsettled.get(&name) != Some(&now) {
            told.unsettled.insert(name, now);
            drop(told);
            self.changes.send_replace(());
        }
    }

    /// What to say now.
    pub(crate) fn now(&self) -> Unsettleds {
        let told = self.lock();
        let mut all: Vec<&Unsettled> = told.unsettled.values().collect();
        all.sort_by_key(|unsettled| std::cmp::Reverse(unsettled.entry_revision));
        let (mut bytes, mut silent_below_revision, mut listed) = (0, 0, Vec::new());
        for unsettled in all {
            bytes += size_of(&unsettled.deployment);
            if bytes > MAX_UNSETTLED_BYTES {
                silent_below_revision = unsettled.entry_revision + 1;
                break;
            }
            listed.push(unsettled.deployment.clone());
        }
        Unsettleds { position: told.position, listed, silent_below_revision }
    }

    /// Tells of changes.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Told> {
        // Each change is one assignment; a panic cannot leave it half-written.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// About what it takes as JSON.
fn size_of(deployment: &UnsettledDeployment) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let version =
        |version: &VersionStatus| version.version.len() + version.digest.len() + text(&version.reason) + 64;
    let versions: usize = deployment.versions.iter().map(version).sum();
    deployment.deployment.len() + versions + text(&deployment.refused) + 64
}

/// Of a deployment without any table that can be used.
pub(super) fn refused(deployment: &str, reason: &str) -> UnsettledDeployment {
    UnsettledDeployment {
        deployment: deployment.to_owned(),
        table_revision: 0,
        versions: Vec::new(),
        refused: Some(shortened(reason)),
    }
}

/// A reason, fit for a message.
pub(super) fn shortened(reason: &str) -> String {
    match reason.char_indices().nth(MAX_REASON_CHARS) {
        Some((end, _)) => format!("{}…", &reason[..end]),
        None => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_last_is_told_first_and_a_message_is_never_too_large() {
        let report = Report::default();
        let reason = "e".repeat(10_000);
        for revision in 1..=1_000_u64 {
            report.unsettled(revision, refused(&format!("d-{revision}"), &reason));
        }
        let told = report.now();
        assert_eq!(told.listed[0].deployment, "d-1000");
        let listed = u64::try_from(told.listed.len()).unwrap();
        assert!((100..1_000).contains(&listed), "{listed}");
        assert_eq!(told.silent_below_revision, 1_000 - listed + 1);
        assert!(serde_json::to_vec(&told.listed).unwrap().len() < 2 * MAX_UNSETTLED_BYTES);
        for revision in 1..=999 {
            report.settled(&format!("d-{revision}"));
        }
        let told = report.now();
        assert_eq!((told.listed.len(), told.silent_below_revision), (1, 0));
    }
}
