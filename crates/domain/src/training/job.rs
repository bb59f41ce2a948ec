//! The life of a job: attempts, leases, retries, cancellation.

use serde::{Deserialize, Serialize};

pub use machine::step;

use super::spec::{JobSpec, Resources};

/// An agent says this often that it lives, milliseconds.
pub const HEARTBEAT_INTERVAL_MS: u64 = 2_000;
/// An agent has this much longer than its command for what it is to do by itself, milliseconds.
pub const AGENT_SPARE_MS: u64 = 15_000;

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waits for a free place.
    Queued,
    /// An attempt waits for its node, image or queue; the reason says for which.
    Pending,
    /// An attempt runs.
    Running,
    /// An attempt failed; the next waits for its backoff and a free place.
    Retrying,
    /// An attempt is being stopped.
    Cancelling,
    /// An attempt is being stopped, and another one follows when the job is resumed.
    Suspending,
    /// Has no attempt until it is resumed.
    Suspended,
    /// The command ended with 0.
    Succeeded,
    /// Given up; the reason says why.
    Failed,
    /// Ended on request.
    Cancelled,
}

impl Status {
    /// The name that JSON and columns carry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Cancelling => "cancelling",
            Self::Suspending => "suspending",
            Self::Suspended => "suspended",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// All of them, in the order of a job's life.
    pub const ALL: [Self; 10] = [
        Self::Queued,
        Self::Pending,
        Self::Running,
        Self::Retrying,
        Self::Cancelling,
        Self::Suspending,
        Self::Suspended,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Whether nothing happens any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// A job's state. Store it as it is; the token of the current attempt is stored separately. Only
/// [`step`] changes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Where it is.
    pub(super) status: Status,
    /// Number of the current or last attempt, from 1; 0 before the first.
    pub(super) attempt: u32,
    /// Attempts whose command failed.
    pub(super) failures: u32,
    /// Attempts lost to disruptions.
    pub(super) disruptions: u32,
    /// Attempts lost to the platform.
    #[serde(default)]
    pub(super) system_failures: u32,
    /// Memory of further attempts where one ran out of memory, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) memory_bytes: Option<u64>,
    /// Nodes with a GPU that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) excluded_nodes: Vec<String>,
    /// Why it is where it is; empty where there is nothing to explain.
    pub(super) reason: String,
    /// Not before this does the next attempt start.
    pub(super) retry_at_unix_ms: Option<u64>,
    /// Start of the current attempt.
    pub(super) attempt_started_at_unix_ms: Option<u64>,
    /// Last word of its agent.
    pub(super) heartbeat_at_unix_ms: Option<u64>,
    /// When the end of the job, or of its attempt, was asked for.
    pub(super) cancel_requested_at_unix_ms: Option<u64>,
}

/// How an attempt ended, as its agent reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The command ended by itself.
    Exited {
        /// Its exit code.
        code: i32,
    },
    /// A signal ended the command.
    Signalled {
        /// Its number.
        signal: i32,
    },
    /// The command does not exist or cannot be run; trying again changes nothing.
    NotStarted {
        /// Why.
        reason: String,
    },
    /// The command ran longer than `timeout_s`; trying again would end the same way.
    TimedOut,
    /// The command was ended since it used more memory than it asked for.
    OutOfMemory {
        /// How much its processes used together, bytes; `None` if unknown.
        used_bytes: Option<u64>,
    },
    /// The command failed after the driver had reported that a GPU does not work.
    GpuFault {
        /// The node that has the GPU.
        node: String,
        /// What was reported.
        message: String,
    },
}

impl Outcome {
    /// Reads an agent's report, in which more than one field may be set.
    pub fn from_report(
        exit_code: Option<i32>,
        signal: Option<i32>,
        start_error: &str,
        timed_out: bool,
        memory_exceeded_bytes: u64,
    ) -> Self {
        match (exit_code, signal) {
            _ if !start_error.is_empty() => Self::NotStarted { reason: start_error.to_owned() },
            _ if timed_out => Self::TimedOut,
            _ if memory_exceeded_bytes > 0 => Self::OutOfMemory { used_bytes: Some(memory_exceeded_bytes) },
            (_, Some(signal)) => Self::Signalled { signal },
            (Some(code), None) => Self::Exited { code },
            (None, None) => {
                Self::NotStarted { reason: "the agent reported neither exit code nor signal".into() }
            }
        }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEvent {
    /// Time passed.
    Tick {
        /// Whether an attempt could start now.
        capacity: bool,
    },
    /// The agent of an attempt lives.
    Heartbeat {
        /// The attempt.
        attempt: u32,
    },
    /// The agent of an attempt cannot start yet.
    Waiting {
        /// The attempt.
        attempt: u32,
        /// For what it waits.
        reason: String,
    },
    /// The lease of an attempt was not renewed in time; see [`super::decide`].
    LeaseOver {
        /// The attempt.
        attempt: u32,
    },
    /// An attempt's agent is known to be gone without a report, or could not be started.
    AgentGone {
        /// The attempt.
        attempt: u32,
        /// What is known about it.
        reason: String,
        /// Whose fault it was not.
        cause: Loss,
    },
    /// An attempt ended.
    Finished {
        /// The attempt.
        attempt: u32,
        /// The process that decided it, by its number; `None` for an attempt with one process.
        process: Option<u32>,
        /// How.
        outcome: Outcome,
    },
    /// The job asks for more than its launcher has.
    CannotBePlaced {
        /// Of what, and how much there is.
        reason: String,
    },
    /// Not all processes of an attempt found a node in time: it makes room for others.
    GaveWay {
        /// The attempt.
        attempt: u32,
        /// What it waited for.
        reason: String,
    },
    /// Someone asked for the end of the job.
    CancelRequested,
    /// Someone asked that the job have no attempt until it is resumed.
    SuspendRequested,
    /// Someone asked for the job to go on.
    ResumeRequested,
}

/// Why an attempt was lost whose command did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// It was evicted, preempted, drained, or lost with its machine.
    Disruption,
    /// Its agent ended or did not start, for a reason that lies in the platform.
    System,
}

/// What is known at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// The moment, Unix time in milliseconds.
    pub now_unix_ms: u64,
    /// A number in [0, 1) that spreads retries.
    pub jitter: f64,
    /// What happened.
    pub event: JobEvent,
}

/// What is to be done. Store the new state and its events first; each action may be repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Give the attempt a fresh token and start its agent. An agent that never reports is found by its lease.
    StartAttempt {
        /// The attempt.
        attempt: u32,
    },
    /// Answer the agent's heartbeats with "cancel": SIGTERM, grace period, SIGKILL.
    StopAttempt {
        /// The attempt.
        attempt: u32,
    },
    /// Refuse the attempt's token from now on, and kill what can be reached of it.
    FenceAttempt {
        /// The attempt.
        attempt: u32,
    },
    /// Tell the others.
    PublishEvent {
        /// What.
        kind: EventKind,
    },
}

/// What an event tells; its reason is the job's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// It exists.
    Submitted,
    /// An attempt starts.
    Started,
    /// An attempt failed and another will follow.
    Retrying,
    /// See [`Status::Suspended`].
    Suspended,
    /// It is no longer suspended.
    Resumed,
    /// See [`Status::Succeeded`].
    Succeeded,
    /// See [`Status::Failed`].
    Failed,
    /// See [`Status::Cancelled`].
    Cancelled,
}

impl EventKind {
    /// The last token of the event's subject.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::Started => "started",
            Self::Retrying => "retrying",
            Self::Suspended => "suspended",
            Self::Resumed => "resumed",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Job {
    /// A job as it is submitted, and the event that tells of it.
    pub fn submitted() -> (Self, Vec<Action>) {
        let job = Self {
            status: Status::Queued,
            attempt: 0,
            failures: 0,
            disruptions: 0,
            system_failures: 0,
            memory_bytes: None,
            excluded_nodes: Vec::new(),
            reason: String::new(),
            retry_at_unix_ms: None,
            attempt_started_at_unix_ms: None,
            heartbeat_at_unix_ms: None,
            cancel_requested_at_unix_ms: None,
        };
        (job, vec![Action::PublishEvent { kind: EventKind::Submitted }])
    }

    /// Where it is.
    pub fn status(&self) -> Status {
        self.status
    }

    /// Number of the current or last attempt, from 1; 0 before the first.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Attempts whose command failed.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Attempts lost to disruptions.
    pub fn disruptions(&self) -> u32 {
        self.disruptions
    }

    /// Attempts lost to the platform.
    pub fn system_failures(&self) -> u32 {
        self.system_failures
    }

    /// What its next attempt gets of a machine.
    pub fn resources(&self, spec: &JobSpec) -> Resources {
        let memory_bytes = self.memory_bytes.unwrap_or(spec.resources.memory_bytes);
        Resources { memory_bytes, ..spec.resources }
    }

    /// Memory of further attempts, bytes, where one ran out of memory and more was to follow.
    pub fn memory_bytes(&self) -> Option<u64> {
        self.memory_bytes
    }

    /// Nodes on which no further attempt is to run, because a GPU of theirs failed.
    pub fn excluded_nodes(&self) -> &[String] {
        &self.excluded_nodes
    }

    /// Whether its attempt is asked to end.
    pub fn is_stopping(&self) -> bool {
        matches!(self.status, Status::Cancelling | Status::Suspending)
    }

    /// Why it is where it is; empty if there is nothing to explain.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The next attempt does not start before this Unix time in milliseconds.
    pub fn retry_at_unix_ms(&self) -> Option<u64> {
        self.retry_at_unix_ms
    }

    /// Last heartbeat of the current attempt's agent, or the attempt's start, Unix time in milliseconds.
    pub fn last_heard_at_unix_ms(&self) -> Option<u64> {
        self.heartbeat_at_unix_ms.or(self.attempt_started_at_unix_ms)
    }

    /// Whether an attempt may be running.
    pub fn has_attempt(&self) -> bool {
        matches!(self.status, Status::Pending | Status::Running | Status::Cancelling | Status::Suspending)
    }
}

mod machine;
#[cfg(test)]
mod tests;
