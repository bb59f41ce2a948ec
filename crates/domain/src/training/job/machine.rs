//! What each event does to a job.

use super::{AGENT_SPARE_MS, Action, EventKind, Job, JobEvent, Loss, Observation, Outcome, Status};
use crate::training::spec::JobSpec;

/// Wait after an attempt has made room. The scheduler of Kubernetes retries a pod that did not fit after up
/// to 10 s (`podMaxBackoffSeconds`), and tries a new pod at once: an attempt that started earlier would take
/// the room back before the pods that wait for it are tried.
/// Source: <https://kubernetes.io/docs/reference/config-api/kube-scheduler-config.v1/>.
const ROOM_MS: u64 = 12_000;
/// Up to this much longer, so that two jobs that have made room do not return together.
const ROOM_SPREAD_MS: f64 = 3_000.0;

/// Advances a job by one event. Events of an attempt other than the current one change nothing.
pub fn step(spec: &JobSpec, job: &Job, seen: &Observation) -> (Job, Vec<Action>) {
    let mut machine = Machine { spec, next: job.clone(), seen, actions: Vec::new() };
    match &seen.event {
        JobEvent::Tick { capacity } => machine.tick(*capacity),
        JobEvent::Heartbeat { attempt } if machine.is_current(*attempt) => machine.hear(),
        JobEvent::Waiting { attempt, reason } if machine.is_current(*attempt) => machine.wait(reason),
        JobEvent::Finished { attempt, process, outcome } if machine.is_current(*attempt) => {
            machine.finish(*process, outcome);
        }
        JobEvent::GaveWay { attempt, reason } if machine.is_current(*attempt) => machine.give_way(reason),
        JobEvent::AgentGone { attempt, reason, cause } if machine.is_current(*attempt) => {
            machine.lose_agent(reason, *cause);
        }
        JobEvent::LeaseOver { attempt } if machine.is_current(*attempt) => machine.lose_lease(),
        JobEvent::Heartbeat { .. }
        | JobEvent::Waiting { .. }
        | JobEvent::Finished { .. }
        | JobEvent::AgentGone { .. }
        | JobEvent::GaveWay { .. }
        | JobEvent::LeaseOver { .. } => {}
        JobEvent::CannotBePlaced { reason } if job.status == Status::Queued => {
            machine.end(Status::Failed, EventKind::Failed, reason);
        }
        JobEvent::CannotBePlaced { .. } => {}
        JobEvent::CancelRequested => machine.cancel(),
        JobEvent::SuspendRequested => machine.suspend(),
        JobEvent::ResumeRequested => machine.resume(),
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
                self.finish(None, &Outcome::TimedOut);
            }
            Status::Cancelling | Status::Suspending if self.stop_is_overdue() => self.end_unconfirmed(),
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

    fn finish(&mut self, process: Option<u32>, outcome: &Outcome) {
        if self.next.is_stopping() {
            self.stopped("");
            return;
        }
        let attempt = match process {
            Some(process) => format!("attempt {}, process {process}", self.next.attempt),
            None => format!("attempt {}", self.next.attempt),
        };
        match outcome {
            Outcome::Exited { code: 0 } => self.end(Status::Succeeded, EventKind::Succeeded, ""),
            Outcome::Exited { code } if self.spec.retries.permanent_exit_codes.contains(code) => {
                self.next.failures += 1;
                let reason = format!("{attempt}: exit code {code}, which asks for no retry");
                self.end(Status::Failed, EventKind::Failed, &reason);
            }
            Outcome::Exited { code } => self.fail(&format!("{attempt}: exit code {code}")),
            Outcome::Signalled { signal } => self.fail(&format!("{attempt}: ended by signal {signal}")),
            Outcome::OutOfMemory { used_bytes } => self.lack_memory(&attempt, *used_bytes),
            Outcome::GpuFault { node, message } => self.exclude(node, message),
            Outcome::NotStarted { reason } => {
                let reason = format!("the command did not start: {reason}");
                self.end(Status::Failed, EventKind::Failed, &reason);
            }
            Outcome::TimedOut => {
                let limit_s = self.spec.timeout_s.unwrap_or_default();
                let reason = format!("{attempt} ran longer than the {limit_s} s of timeout_s");
                self.end(Status::Failed, EventKind::Failed, &reason);
            }
        }
    }

    /// The first time, more memory may follow; after that it is a failure like another.
    fn lack_memory(&mut self, attempt: &str, used_bytes: Option<u64>) {
        let limit_bytes = self.next.resources(self.spec).memory_bytes;
        let what = match (used_bytes, limit_bytes) {
            (Some(used_bytes), _) => format!(
                "its processes used {used_bytes} bytes, more than the {limit_bytes} of \
                 resources.memory_bytes"
            ),
            (None, 0) => "its node had no memory left".to_owned(),
            (None, _) => format!("it used more than the {limit_bytes} bytes of resources.memory_bytes"),
        };
        let what = format!("{attempt}: out of memory: {what}");
        match self.spec.retries.oom_memory_bytes {
            Some(more_bytes) if self.next.memory_bytes.is_none() => {
                self.next.memory_bytes = Some(more_bytes);
                self.retry(1, &format!("{what}; another attempt with {more_bytes} bytes follows"));
            }
            _ => self.fail(&what),
        }
    }

    fn exclude(&mut self, node: &str, message: &str) {
        if !node.is_empty() && !self.next.excluded_nodes.iter().any(|known| known == node) {
            self.next.excluded_nodes.push(node.to_owned());
        }
        let node = if node.is_empty() { String::new() } else { format!(" of node `{node}`") };
        self.lose(&format!("a GPU{node} failed: {message}"), Loss::System);
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
        self.fence();
        if self.next.is_stopping() {
            self.stopped(reason);
        } else {
            self.lose(reason, cause);
        }
    }

    fn lose_lease(&mut self) {
        if self.next.is_stopping() {
            self.end_unconfirmed();
        } else {
            self.fence();
            self.lose("its agent did not report", Loss::Disruption);
        }
    }

    fn end_unconfirmed(&mut self) {
        self.fence();
        self.stopped("its agent did not confirm the end");
    }

    /// The attempt that was asked to end has ended.
    fn stopped(&mut self, how: &str) {
        let how = if how.is_empty() { String::new() } else { format!("; {how}") };
        if self.next.status == Status::Suspending {
            self.end(Status::Suspended, EventKind::Suspended, &format!("suspended{how}"));
        } else {
            self.end(Status::Cancelled, EventKind::Cancelled, &format!("cancelled{how}"));
        }
    }

    /// Spends no budget: nothing went wrong.
    fn give_way(&mut self, reason: &str) {
        if self.next.status == Status::Pending {
            self.fence();
            let reason = format!("attempt {} made room for others: {reason}", self.next.attempt);
            let spread_ms = (ROOM_SPREAD_MS * self.seen.jitter) as u64;
            self.retry_after(ROOM_MS + spread_ms, &reason);
        }
    }

    fn lose(&mut self, why: &str, cause: Loss) {
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
        self.retry_after(self.spec.retries.backoff_ms(retry, self.seen.jitter), reason);
    }

    fn retry_after(&mut self, wait_ms: u64, reason: &str) {
        self.next.status = Status::Retrying;
        self.next.retry_at_unix_ms = Some(self.seen.now_unix_ms + wait_ms);
        reason.clone_into(&mut self.next.reason);
        self.clear_attempt();
        self.publish(EventKind::Retrying);
    }

    fn cancel(&mut self) {
        match self.next.status {
            // Its command has been told; all that differs is what follows.
            Status::Suspending => self.next.status = Status::Cancelling,
            Status::Cancelling | Status::Succeeded | Status::Failed | Status::Cancelled => {}
            _ => self.stop(Status::Cancelling),
        }
    }

    fn suspend(&mut self) {
        if matches!(self.next.status, Status::Queued | Status::Retrying | Status::Pending | Status::Running) {
            self.stop(Status::Suspending);
        }
    }

    fn resume(&mut self) {
        if self.next.status == Status::Suspended {
            self.next.cancel_requested_at_unix_ms = None;
            self.end(Status::Queued, EventKind::Resumed, "");
        }
    }

    /// Has the attempt end, where there is one; `stopping` says what follows.
    fn stop(&mut self, stopping: Status) {
        self.next.cancel_requested_at_unix_ms = Some(self.seen.now_unix_ms);
        match std::mem::replace(&mut self.next.status, stopping) {
            Status::Running => {
                "the command is being stopped".clone_into(&mut self.next.reason);
                self.actions.push(Action::StopAttempt { attempt: self.next.attempt });
            }
            Status::Pending => {
                // Its command does not run, and never will: its agent is refused the lease.
                self.fence();
                self.stopped("");
            }
            _ => self.stopped(""),
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
