//! The other processes of a distributed job, as this one knows them: through the launcher, which tells each
//! what it is to do next.

use std::collections::BTreeMap;

use slipway_api::proto::launcher::HeartbeatResponse;
use slipway_domain::training::attempt::PROCESS_PLACEHOLDER;
use slipway_domain::training::{DEFAULT_GROUP_PORT, JobSpec};
use tokio::sync::watch;

use crate::Config;

/// What this process tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Whether its checkpoint is restored.
    pub(crate) ready: bool,
    /// Prefix of that checkpoint; empty where there was none.
    pub(crate) restored: String,
    /// Whether its agent was told to end.
    pub(crate) stopping: bool,
}

/// What this process is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// Wait for the others.
    Wait,
    /// Restore an older checkpoint; none where the prefix is empty.
    Restore {
        /// Prefix of the checkpoint.
        prefix: String,
    },
    /// Start the command.
    Start,
}

/// Its link to the others. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Peers {
    told: watch::Sender<Told>,
    next: watch::Sender<Next>,
}

impl Peers {
    pub(crate) fn new() -> Self {
        Self { told: watch::channel(Told::default()).0, next: watch::channel(Next::Wait).0 }
    }

    /// What the next heartbeat tells.
    pub(crate) fn told(&self) -> watch::Receiver<Told> {
        self.told.subscribe()
    }

    /// Tells that the checkpoint with this prefix is restored; none was where it is empty.
    pub(crate) fn ready(&self, prefix: &str) {
        self.next.send_replace(Next::Wait);
        self.told.send_modify(|told| (told.ready, told.restored) = (true, prefix.to_owned()));
    }

    /// Tells that another checkpoint is being restored.
    pub(crate) fn not_ready(&self) {
        self.told.send_modify(|told| told.ready = false);
    }

    /// Tells that the agent was told to end.
    pub(crate) fn stopping(&self) {
        self.told.send_modify(|told| told.stopping = true);
    }

    /// Takes the answer to a heartbeat.
    pub(crate) fn heed(&self, answer: &HeartbeatResponse) {
        let next = match &answer.restore_prefix {
            Some(prefix) => Next::Restore { prefix: prefix.clone() },
            None if answer.wait => Next::Wait,
            None => Next::Start,
        };
        self.next.send_replace(next);
    }

    /// What the process does that has told that it is ready, once it need not wait.
    pub(crate) async fn next(&self) -> Next {
        let mut next = self.next.subscribe();
        match next.wait_for(|next| *next != Next::Wait).await {
            Ok(next) => next.clone(),
            // The sender lives in `self`.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Variables by which frameworks find the other processes; none for a job with one.
pub(crate) fn environment(config: &Config, spec: &JobSpec) -> BTreeMap<&'static str, String> {
    let variables = || {
        let (process, pattern) = (config.process?, config.group_host.as_ref()?);
        let group = spec.group()?;
        let port = spec.kubernetes.as_ref()?.port.unwrap_or(DEFAULT_GROUP_PORT);
        let host = |number: u32| pattern.replace(PROCESS_PLACEHOLDER, &number.to_string());
        let hosts: Vec<String> = (0..group.processes()).map(host).collect();
        group.environment(process, &hosts, port)
    };
    variables().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_that_is_ready_waits_for_an_answer_to_that() {
        let peers = Peers::new();
        let answer = |wait, restore_prefix: Option<&str>| HeartbeatResponse {
            wait,
            restore_prefix: restore_prefix.map(str::to_owned),
            ..HeartbeatResponse::default()
        };
        peers.ready("c/2");
        peers.heed(&answer(true, None));
        assert_eq!(*peers.next.borrow(), Next::Wait);
        peers.heed(&answer(true, Some("c/1")));
        assert_eq!(peers.next().await, Next::Restore { prefix: "c/1".to_owned() });
        peers.not_ready();
        assert_eq!(*peers.told.borrow(), Told { ready: false, restored: "c/2".to_owned(), stopping: false });
        peers.ready("c/1");
        assert_eq!(*peers.next.borrow(), Next::Wait, "what was told before does not count");
        peers.heed(&answer(false, None));
        assert_eq!(peers.next().await, Next::Start);
    }
}
