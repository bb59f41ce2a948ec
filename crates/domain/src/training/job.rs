//! The life of a job: attempts, leases, retries, cancellation.

use serde::{Deserialize, Serialize};

use super::spec::JobSpec;

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
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status of that name.
    pub fn parse(name: &str) -> Option<Self> {
        use Status::{Cancelled, Cancelling, Failed, Pending, Queued, Retrying, Running, Succeeded};
        [Queued, Pending, Running, Retrying, Cancelling, Succeeded, Failed, Cancelled]
            .into_iter()
            .find(|status| status.as_str() == name)
    }

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
    /// Why it is where it is; empty where there is nothing to explain.
    pub(super) reason: String,
    /// Not before this does the next attempt start.
    pub(super) retry_at_unix_ms: Option<u64>,
    /// Start of the current attempt.
    pub(super) attempt_started_at_unix_ms: Option<u64>,
    /// Last word of its agent.
    pub(super) heartbeat_at_unix_ms: Option<u64>,
    /// When its end was asked for.
    pub(super) cancel_requested_at_unix_ms: Option<u64>,
}

/// How an attempt ended, as its agent reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
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
        /// How much its processes used together, bytes; `None` where nobody has measured it.
        used_bytes: Option<u64>,
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
        /// How.
        outcome: Outcome,
    },
    /// The job asks for more than its launcher has.
    CannotBePlaced {
        /// Of what, and how much there is.
        reason: String,
    },
    /// Someone asked for the end of the job.
    CancelRequested,
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
        matches!(self.status, Status::Pending | Status::Running | Status::Cancelling)
    }
}

/// Advances a job by one event. Events of an attempt other than the current one change nothing.
pub fn step(spec: &JobSpec, job: &Job, seen: &Observation) -> (Job, Vec<Action>) {
    let mut machine = Machine { spec, next: job.clone(), seen, actions: Vec::new() };
    match &seen.event {
        JobEvent::Tick { capacity } => machine.tick(*capacity),
        JobEvent::Heartbeat { attempt } if machine.is_current(*attempt) => machine.hear(),
        JobEvent::Waiting { attempt, reason } if machine.is_current(*attempt) => machine.wait(reason),
        JobEvent::Finished { attempt, outcome } if machine.is_current(*attempt) => machine.finish(outcome),
        JobEvent::AgentGone { attempt, reason, cause } if machine.is_current(*attempt) => {
            machine.lose_agent(reason, *cause);
        }
        JobEvent::LeaseOver { attempt } if machine.is_current(*attempt) => machine.lose_lease(),
        JobEvent::Heartbeat { .. }
        | JobEvent::Waiting { .. }
        | JobEvent::Finished { .. }
        | JobEvent::AgentGone { .. }
        | JobEvent::LeaseOver { .. } => {}
        JobEvent::CannotBePlaced { reason } if job.status == Status::Queued => {
            machine.end(Status::Failed, EventKind::Failed, reason);
        }
        JobEvent::CannotBePlaced { .. } => {}
        JobEvent::CancelRequested => machine.cancel(),
    }
    (machine.next, machine.actions)
}

struct Machine<'seen> {
    spec: &'seen JobSpec,
    next: Job,
    seen: &'seen Observation,
    actions: Vec<Action>,
}

impl Machine<'_> {
    fn is_current(&self, attempt: u32) -> bool {
        self.next.has_attempt() && self.next.attempt == attempt
    }

    fn tick(&mut self, capacity: bool) {
        let now = self.seen.now_unix_ms;
        match self.next.status {
            Status::Queued if capacity => self.start(),
            Status::Retrying if capacity && self.next.retry_at_unix_ms.is_none_or(|at| now >= at) => {
                self.start();
            }
            Status::Running if self.overran() => {
                self.fence();
                self.finish(&Outcome::TimedOut);
            }
            Status::Cancelling if self.stop_is_overdue() => self.end_unconfirmed(),
            _ => {}
        }
    }

    fn start(&mut self) {
        self.next.attempt += 1;
        self.next.status = Status::Running;
        self.next.reason = String::new();
        self.next.retry_at_unix_ms = None;
        self.next.attempt_started_at_unix_ms = Some(self.seen.now_unix_ms);
        self.next.heartbeat_at_unix_ms = None;
        self.actions.push(Action::StartAttempt { attempt: self.next.attempt });
        self.publish(EventKind::Started);
    }

    /// What an attempt waited for does not count as time in which it ran.
    fn hear(&mut self) {
        let now = self.seen.now_unix_ms;
        if self.next.status == Status::Pending {
            self.next.status = Status::Running;
            self.next.reason = String::new();
            self.next.attempt_started_at_unix_ms = Some(now);
        }
        self.next.heartbeat_at_unix_ms = Some(now);
    }

    fn wait(&mut self, reason: &str) {
        let is_silent = self.next.heartbeat_at_unix_ms.is_none();
        if is_silent && matches!(self.next.status, Status::Running | Status::Pending) {
            self.next.status = Status::Pending;
            reason.clone_into(&mut self.next.reason);
        }
    }

    fn finish(&mut self, outcome: &Outcome) {
        if self.next.status == Status::Cancelling {
            self.end(Status::Cancelled, EventKind::Cancelled, "cancelled");
            return;
        }
        let attempt = self.next.attempt;
        match outcome {
            Outcome::Exited { code: 0 } => self.end(Status::Succeeded, EventKind::Succeeded, ""),
            Outcome::Exited { code } if self.spec.retries.permanent_exit_codes.contains(code) => {
                self.next.failures += 1;
                let reason = format!("attempt {attempt}: exit code {code}, which asks for no retry");
                self.end(Status::Failed, EventKind::Failed, &reason);
            }
            Outcome::Exited { code } => self.fail(&format!("attempt {attempt}: exit code {code}")),
            Outcome::Signalled { signal } => {
                self.fail(&format!("attempt {attempt}: ended by signal {signal}"));
            }
            Outcome::OutOfMemory { used_bytes } => {
                let limit_bytes = self.spec.resources.memory_bytes;
                let what = match (used_bytes, limit_bytes) {
                    (Some(used_bytes), _) => format!(
                        "its processes used {used_bytes} bytes, more than the {limit_bytes} of \
                         resources.memory_bytes"
                    ),
                    (None, 0) => "its node had no memory left".to_owned(),
                    (None, _) => {
                        format!("it used more than the {limit_bytes} bytes of resources.memory_bytes")
                    }
                };
                self.fail(&format!("attempt {attempt}: out of memory: {what}"));
            }
            Outcome::NotStarted { reason } => {
                let reason = format!("the command did not start: {reason}");
                self.end(Status::Failed, EventKind::Failed, &reason);
            }
            Outcome::TimedOut => {
                let limit_s = self.spec.timeout_s.unwrap_or_default();
                let reason = format!("attempt {attempt} ran longer than the {limit_s} s of timeout_s");
                self.end(Status::Failed, EventKind::Failed, &reason);
            }
        }
    }

    fn fail(&mut self, what: &str) {
        self.next.failures += 1;
        let limit = self.spec.retries.limit;
        if self.next.failures > limit {
            let tries = if limit == 0 { "no retries were requested" } else { "its retries are used up" };
            self.end(Status::Failed, EventKind::Failed, &format!("{what}; {tries}"));
        } else {
            let retry = self.next.failures;
            self.retry(retry, &format!("{what}; retry {retry} of {limit} follows"));
        }
    }

    fn lose_agent(&mut self, reason: &str, cause: Loss) {
        if self.next.status == Status::Cancelling {
            self.fence();
            self.end(Status::Cancelled, EventKind::Cancelled, &format!("cancelled; {reason}"));
        } else {
            self.lose_attempt(reason, cause);
        }
    }

    fn lose_lease(&mut self) {
        if self.next.status == Status::Cancelling {
            self.end_unconfirmed();
        } else {
            self.lose_attempt("its agent did not report", Loss::Disruption);
        }
    }

    fn end_unconfirmed(&mut self) {
        self.fence();
        self.end(Status::Cancelled, EventKind::Cancelled, "cancelled; its agent did not confirm the end");
    }

    fn lose_attempt(&mut self, why: &str, cause: Loss) {
        self.fence();
        let retries = &self.spec.retries;
        let (lost, limit, field) = match cause {
            Loss::Disruption => (&mut self.next.disruptions, retries.disruption_limit, "disruption_limit"),
            Loss::System => (&mut self.next.system_failures, retries.system_limit, "system_limit"),
        };
        *lost += 1;
        let lost = *lost;
        let what = format!("attempt {}: {why}", self.next.attempt);
        if lost > limit {
            let reason = format!("{what}; lost {lost} times, more than the {limit} of retries.{field}");
            self.end(Status::Failed, EventKind::Failed, &reason);
        } else {
            self.retry(lost, &format!("{what}; another attempt follows"));
        }
    }

    fn retry(&mut self, retry: u32, reason: &str) {
        let wait_ms = self.spec.retries.backoff_ms(retry, self.seen.jitter);
        self.next.status = Status::Retrying;
        self.next.retry_at_unix_ms = Some(self.seen.now_unix_ms + wait_ms);
        reason.clone_into(&mut self.next.reason);
        self.clear_attempt();
        self.publish(EventKind::Retrying);
    }

    fn cancel(&mut self) {
        match self.next.status {
            Status::Queued | Status::Retrying => {
                self.next.cancel_requested_at_unix_ms = Some(self.seen.now_unix_ms);
                self.end(Status::Cancelled, EventKind::Cancelled, "cancelled");
            }
            Status::Pending => {
                // Its command does not run, and never will: its agent is refused the lease.
                self.next.cancel_requested_at_unix_ms = Some(self.seen.now_unix_ms);
                self.fence();
                self.end(Status::Cancelled, EventKind::Cancelled, "cancelled");
            }
            Status::Running => {
                self.next.cancel_requested_at_unix_ms = Some(self.seen.now_unix_ms);
                self.next.status = Status::Cancelling;
                "the command is being stopped".clone_into(&mut self.next.reason);
                self.actions.push(Action::StopAttempt { attempt: self.next.attempt });
            }
            Status::Cancelling | Status::Succeeded | Status::Failed | Status::Cancelled => {}
        }
    }

    fn end(&mut self, status: Status, kind: EventKind, reason: &str) {
        self.next.status = status;
        self.next.retry_at_unix_ms = None;
        reason.clone_into(&mut self.next.reason);
        self.clear_attempt();
        self.publish(kind);
    }

    fn clear_attempt(&mut self) {
        self.next.attempt_started_at_unix_ms = None;
        self.next.heartbeat_at_unix_ms = None;
    }

    fn fence(&mut self) {
        self.actions.push(Action::FenceAttempt { attempt: self.next.attempt });
    }

    fn publish(&mut self, kind: EventKind) {
        self.actions.push(Action::PublishEvent { kind });
    }

    fn stop_is_overdue(&self) -> bool {
        let asked_at = self.next.cancel_requested_at_unix_ms;
        asked_at.is_some_and(|at| self.seen.now_unix_ms >= at + self.grace_ms() + AGENT_SPARE_MS)
    }

    /// The agent keeps the timeout; this is for an agent that does not.
    fn overran(&self) -> bool {
        let (Some(started_at), Some(timeout_s)) = (self.next.attempt_started_at_unix_ms, self.spec.timeout_s)
        else {
            return false;
        };
        self.seen.now_unix_ms >= started_at + milliseconds(timeout_s) + self.grace_ms() + AGENT_SPARE_MS
    }

    fn grace_ms(&self) -> u64 {
        milliseconds(self.spec.grace_period_s)
    }
}

fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1_000.0).max(0.0) as u64
}

#[cfg(test)]
mod tests;
