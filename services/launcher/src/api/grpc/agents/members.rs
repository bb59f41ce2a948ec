//! The processes of distributed jobs: their leases, what each of them does next, and when their attempt ends.

use slipway_api::proto::launcher::{FinishAttemptRequest, HeartbeatRequest, HeartbeatResponse};
use slipway_domain::training::{End, Group, JobEvent, Loss, Order, Outcome, end, order};
use slipway_http_server::Problem;
use sqlx::PgConnection;

use super::{bounded, outcome_of};
use crate::change;
use crate::store::attempts::{self, Ending};
use crate::store::jobs::StoredJob;
use crate::store::processes::{self, Ended, ProcessKey, Told};

/// Warnings of an attempt that are kept.
const MAX_WARNINGS: i64 = 50;

/// A process that speaks for itself.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) group: Group,
    pub(super) key: ProcessKey,
}

impl Member {
    /// The process of this number, where the job has several.
    ///
    /// # Errors
    /// The job has no such process.
    pub(super) fn of(job: &StoredJob, attempt: u32, number: u32) -> Result<Option<Self>, Problem> {
        let Some(group) = job.spec.group() else { return Ok(None) };
        if group.role_of(number).is_none() {
            let detail = format!("must be below the {} processes of the job, is {number}", group.processes());
            return Err(Problem::invalid("process", detail));
        }
        Ok(Some(Self { group, key: ProcessKey { job_id: job.id, attempt, number } }))
    }

    fn trains(&self) -> bool {
        self.group.trains(self.key.number)
    }

    /// Notes a heartbeat. `true` where the lease of the attempt is renewed.
    pub(super) async fn renew(
        &self,
        connection: &mut PgConnection,
        request: &HeartbeatRequest,
    ) -> Result<bool, Problem> {
        let told = Told {
            ready: request.ready,
            restored: &request.restored_prefix,
            stopping: request.stopping,
            warnings: &bounded(&request.warnings),
        };
        let renewed = processes::renew(connection, self.key, told).await?;
        if !request.warnings.is_empty() {
            self.set_warnings(connection).await?;
        }
        Ok(renewed)
    }

    /// Shows the warnings of all processes at their attempt.
    async fn set_warnings(&self, connection: &mut PgConnection) -> Result<(), Problem> {
        let ProcessKey { job_id, attempt, .. } = self.key;
        let warnings = processes::warnings(connection, job_id, attempt, MAX_WARNINGS).await?;
        Ok(attempts::set_warnings(connection, job_id, attempt, &warnings).await?)
    }

    /// What the process does next, added to the answer to its heartbeat.
    pub(super) async fn instruct(
        &self,
        connection: &mut PgConnection,
        request: &HeartbeatRequest,
        answer: &mut HeartbeatResponse,
    ) -> Result<(), Problem> {
        let ProcessKey { job_id, attempt, .. } = self.key;
        let held = attempts::held(connection, job_id, attempt).await?;
        let renewals = held.and_then(|held| u64::try_from(held.renewals).ok());
        answer.renewals = Some(renewals.unwrap_or(0));
        let gathered = processes::gathered(connection, job_id, attempt, self.group.trainers()).await?;
        match order(&gathered, self.trains(), &request.restored_prefix) {
            Order::Wait => answer.wait = true,
            // Repeated with each heartbeat until the process reports that checkpoint.
            Order::Restore { prefix } => {
                answer.wait = true;
                answer.restore_prefix = Some(prefix).filter(|_| request.ready);
            }
            Order::Run if held.is_none_or(|held| !held.is_ready) => {
                attempts::set_ready(connection, job_id, attempt, &gathered.oldest).await?;
            }
            Order::Run => {}
            Order::Stop => answer.stop = true,
            Order::Kill => answer.kill = true,
        }
        Ok(())
    }

    /// Notes how the process ended. Answers with the event that ends the attempt, where it was the last one.
    pub(super) async fn finish(
        &self,
        connection: &mut PgConnection,
        job: &StoredJob,
        request: &FinishAttemptRequest,
    ) -> Result<Option<(JobEvent, Ending)>, Problem> {
        let outcome = outcome_of(request);
        let ended = Ended {
            outcome: &outcome,
            exit_code: request.exit_code,
            signal: request.signal,
            stopped: request.preempted && request.exit_code != Some(0),
            warnings: &bounded(&request.warnings),
        };
        let renewed = processes::end(connection, self.key, ended).await?;
        self.set_warnings(connection).await?;
        let ProcessKey { job_id, attempt, .. } = self.key;
        if renewed {
            attempts::renew(connection, job_id, attempt, None).await?;
        }
        let gathered = processes::gathered(connection, job_id, attempt, self.group.trainers()).await?;
        let Some(how) = end(&gathered) else { return Ok(None) };
        let succeeded = JobEvent::Finished { attempt, process: None, outcome: Outcome::Exited { code: 0 } };
        Ok(match how {
            // That it has ended is all that counts.
            _ if job.state.is_stopping() => Some((succeeded, Ending::default())),
            End::Failed => change::failure(connection, job_id, attempt).await?,
            End::Disrupted => Some((disrupted(attempt), Ending::default())),
            End::Succeeded => Some((succeeded, Ending { exit_code: Some(0), ..Ending::default() })),
        })
    }
}

/// The event of an attempt whose agent was told to end.
pub(super) fn disrupted(attempt: u32) -> JobEvent {
    let reason = "its agent was stopped".to_owned();
    JobEvent::AgentGone { attempt, reason, cause: Loss::Disruption }
}
