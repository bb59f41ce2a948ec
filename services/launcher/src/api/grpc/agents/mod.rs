//! The agents' side: leases, heartbeats, logs, checkpoints, reports. Each call is checked against the
//! attempt's token first.

mod commits;
mod leases;
mod members;

use slipway_api::proto::launcher::agents_server::Agents;
use slipway_api::proto::launcher::{
    AcquireLeaseRequest, AppendLogsRequest, AppendLogsResponse, BeginUploadsRequest, BeginUploadsResponse,
    CommitCheckpointRequest, CommitCheckpointResponse, CompleteUploadRequest, CompleteUploadResponse,
    DiscardUploadRequest, DiscardUploadResponse, FinishAttemptRequest, FinishAttemptResponse,
    HeartbeatRequest, HeartbeatResponse, Lease, SignDownloadsRequest, SignDownloadsResponse,
    SignPartsRequest, SignPartsResponse, UploadTarget,
};
use slipway_domain::training::{self, Job, JobEvent, JobSpec, Outcome, check_fence};
use slipway_http_server::Problem;
use sqlx::PgConnection;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use self::leases::heartbeat_interval_ms;
use self::members::Member;
use crate::change::{self, Details, token_sha256};
use crate::logs::{CHUNK_BYTES, LogKey};
use crate::manage;
use crate::state::State;
use crate::store::attempts::{self, Ending, StoredLog};
use crate::store::checkpoints;
use crate::store::jobs::{self, StoredJob};
use crate::uploads::{self, Target, Upload};

/// One call of an agent carries no more of a log.
const MAX_CHUNK_BYTES: usize = 4 * 1024 * 1024;
/// Warnings of an attempt that are kept.
const MAX_WARNINGS: usize = 50;
const MAX_WARNING_CHARS: usize = 1_000;
/// Longest name of an object of Kubernetes.
const MAX_NODE_CHARS: usize = 253;
const MAX_PREFIX_BYTES: usize = 500;

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    state: State,
}

impl Service {
    pub(crate) const fn new(state: State) -> Self {
        Self { state }
    }

    /// The job, where `token` is the current attempt's; otherwise FAILED_PRECONDITION, which tells the agent
    /// to stop.
    async fn fenced(
        &self,
        connection: &mut PgConnection,
        id: &str,
        attempt: u32,
        token: &str,
    ) -> Result<StoredJob, Problem> {
        let id = manage::job_id(id)?;
        let job = jobs::lock(connection, id).await?.ok_or_else(|| absent(id))?;
        self.check(connection, id, &job.state, attempt, token).await?;
        Ok(job)
    }

    /// As [`Self::fenced`] for a call that changes nothing of the job: its id.
    async fn fenced_id(
        &self,
        connection: &mut PgConnection,
        id: &str,
        attempt: u32,
        token: &str,
    ) -> Result<Uuid, Problem> {
        let id = manage::job_id(id)?;
        let job = jobs::hold_state(connection, id).await?.ok_or_else(|| absent(id))?;
        self.check(connection, id, &job, attempt, token).await?;
        Ok(id)
    }

    /// The id of the job, where the attempt is the current one now. What follows changes nothing that a later
    /// attempt uses.
    async fn admitted(&self, id: &str, attempt: u32, token: &str) -> Result<Uuid, Problem> {
        let mut transaction = slipway_service_kit::db::begin(&self.state.pool).await?;
        let id = self.fenced_id(&mut transaction, id, attempt, token).await?;
        transaction.rollback().await?;
        Ok(id)
    }

    async fn is_committed(&self, job_id: Uuid, prefix: &str) -> Result<bool, Problem> {
        let mut connection = self.state.pool.acquire().await?;
        Ok(checkpoints::is_committed(&mut connection, job_id, prefix).await?)
    }

    async fn check(
        &self,
        connection: &mut PgConnection,
        id: Uuid,
        job: &Job,
        attempt: u32,
        token: &str,
    ) -> Result<(), Problem> {
        let current = attempts::token_sha256(connection, id, attempt).await?;
        check_fence(job, current.as_deref(), attempt, &token_sha256(token)).map_err(|fenced| {
            self.state.metrics.fenced_calls.inc();
            Problem::conflict(fenced.to_string())
        })
    }

    /// The job after its attempt's lease was renewed.
    async fn renewed(
        &self,
        connection: &mut PgConnection,
        job: StoredJob,
        attempt: u32,
        given: Option<training::Lease>,
    ) -> Result<StoredJob, Problem> {
        attempts::renew(connection, job.id, attempt, given).await?;
        self.heard(connection, job, attempt).await
    }

    /// The job after its attempt was heard.
    async fn heard(
        &self,
        connection: &mut PgConnection,
        job: StoredJob,
        attempt: u32,
    ) -> Result<StoredJob, Problem> {
        let event = JobEvent::Heartbeat { attempt };
        let changed = change::within(&self.state, connection, job, event, Details::default()).await?;
        Ok(changed.job)
    }
}

#[tonic::async_trait]
impl Agents for Service {
    async fn acquire_lease(&self, request: Request<AcquireLeaseRequest>) -> Result<Response<Lease>, Status> {
        let request = request.into_inner();
        let mut transaction =
            slipway_service_kit::db::begin(&self.state.pool).await.map_err(Problem::from)?;
        let job = self.fenced(&mut transaction, &request.job_id, request.attempt, &request.token).await?;
        if !request.ends_with_lease {
            let detail = "the agent is older than this launcher and does not end with its lease; update it";
            return Err(Problem::invalid("ends_with_lease", detail).into());
        }
        let given = Some(self.state.lease);
        let job = match Member::of(&job, request.attempt, request.process)? {
            Some(member) => self.held_by(&mut transaction, job, &member).await?,
            None => self.renewed(&mut transaction, job, request.attempt, given).await?,
        };
        transaction.commit().await.map_err(Problem::from)?;
        let spec = JobSpec { resources: job.state.resources(&job.spec), ..job.spec.clone() };
        let processes = job.spec.group().map_or(1, |group| group.processes());
        Ok(Response::new(Lease {
            spec_json: serde_json::to_string(&spec).map_err(Problem::internal)?,
            heartbeat_interval_ms: heartbeat_interval_ms(processes),
            lease_ms: self.state.lease.ms(),
            restore_manifests_json: self.restorable(&job).await?,
            checkpoint_prefix: uploads::prefix_of(job.id),
            registry_url: self.state.registry_url.to_string(),
            traceparent: job.traceparent.unwrap_or_default(),
            max_log_bytes: self.state.logs.max_bytes(),
            log_chunk_bytes: CHUNK_BYTES,
            launcher_urls: self.state.launcher_urls(),
        }))
    }

    async fn heartbeat(
        &self,
        request: Request<HeartbeatRequest>,
    ) -> Result<Response<HeartbeatResponse>, Status> {
        let request = request.into_inner();
        let mut transaction =
            slipway_service_kit::db::begin(&self.state.pool).await.map_err(Problem::from)?;
        let job = self.fenced(&mut transaction, &request.job_id, request.attempt, &request.token).await?;
        check_restored(&job, &request.restored_prefix)?;
        let member = Member::of(&job, request.attempt, request.process)?;
        let job = match &member {
            Some(member) => self.heard_of(&mut transaction, job, member, &request).await?,
            None => self.heard_alone(&mut transaction, job, &request).await?,
        };
        let mut answer = HeartbeatResponse {
            cancel: job.state.is_stopping(),
            grace_period_ms: grace_ms(&job),
            launcher_urls: self.state.launcher_urls(),
            ..HeartbeatResponse::default()
        };
        if let Some(member) = &member {
            member.instruct(&mut transaction, &request, &mut answer).await?;
        }
        transaction.commit().await.map_err(Problem::from)?;
        Ok(Response::new(answer))
    }

    async fn append_logs(
        &self,
        request: Request<AppendLogsRequest>,
    ) -> Result<Response<AppendLogsResponse>, Status> {
        let request = request.into_inner();
        if request.chunk.len() > MAX_CHUNK_BYTES {
            return Err(Problem::invalid("chunk", format!("must be at most {MAX_CHUNK_BYTES} bytes")).into());
        }
        let mut transaction =
            slipway_service_kit::db::begin(&self.state.pool).await.map_err(Problem::from)?;
        let AppendLogsRequest { job_id, attempt, token, offset_bytes, chunk, process } = request;
        let id = self.fenced_id(&mut transaction, &job_id, attempt, &token).await?;
        let found = attempts::log_of_agent(&mut transaction, id, attempt, process).await;
        let found = found.map_err(Problem::from)?;
        // Nothing was written; the lock only ordered this call after a fencing that was on its way.
        transaction.rollback().await.map_err(Problem::from)?;
        let (is_of_process, stored) = found.unwrap_or((false, StoredLog::Objects(0)));
        let log = LogKey { job_id: id, attempt, process: is_of_process.then_some(process) };
        let State { logs, pool, .. } = &self.state;
        let appended = logs.append(pool, log, stored, offset_bytes, chunk.into()).await;
        let next_offset_bytes = appended.map_err(|error| {
            tracing::error!(%error, job_id = %id, "log cannot be stored");
            Problem::unavailable("the artifact store")
        })?;
        Ok(Response::new(AppendLogsResponse { next_offset_bytes }))
    }

    async fn begin_uploads(
        &self,
        request: Request<BeginUploadsRequest>,
    ) -> Result<Response<BeginUploadsResponse>, Status> {
        let BeginUploadsRequest { job_id, attempt, token, prefix, files } = request.into_inner();
        let id = self.admitted(&job_id, attempt, &token).await?;
        let files: Vec<(String, u64)> = files.into_iter().map(|file| (file.path, file.size_bytes)).collect();
        let targets = Upload::of(&self.state, id, attempt, prefix)?.begin(&files).await?;
        let targets = targets.into_iter().map(|target| match target {
            Target::Whole { url } => UploadTarget { url, ..UploadTarget::default() },
            Target::Parts { upload_id, part_bytes } => {
                UploadTarget { upload_id, part_bytes, ..UploadTarget::default() }
            }
        });
        Ok(Response::new(BeginUploadsResponse { targets: targets.collect() }))
    }

    async fn sign_parts(
        &self,
        request: Request<SignPartsRequest>,
    ) -> Result<Response<SignPartsResponse>, Status> {
        let SignPartsRequest { job_id, attempt, token, prefix, path, upload_id, first_part, count } =
            request.into_inner();
        let id = self.admitted(&job_id, attempt, &token).await?;
        let upload = Upload::of(&self.state, id, attempt, prefix)?;
        let urls = upload.sign_parts(&path, &upload_id, first_part, count).await?;
        Ok(Response::new(SignPartsResponse { urls }))
    }

    async fn complete_upload(
        &self,
        request: Request<CompleteUploadRequest>,
    ) -> Result<Response<CompleteUploadResponse>, Status> {
        let CompleteUploadRequest { job_id, attempt, token, prefix, path, upload_id, etags } =
            request.into_inner();
        let id = self.admitted(&job_id, attempt, &token).await?;
        Upload::of(&self.state, id, attempt, prefix)?.complete(&path, &upload_id, etags).await?;
        Ok(Response::new(CompleteUploadResponse {}))
    }

    async fn discard_upload(
        &self,
        request: Request<DiscardUploadRequest>,
    ) -> Result<Response<DiscardUploadResponse>, Status> {
        let DiscardUploadRequest { job_id, attempt, token, prefix } = request.into_inner();
        let id = self.admitted(&job_id, attempt, &token).await?;
        let upload = Upload::of(&self.state, id, attempt, prefix.clone())?;
        if self.is_committed(id, &prefix).await? {
            return Err(Problem::invalid("prefix", "is that of a committed checkpoint").into());
        }
        upload.discard().await?;
        Ok(Response::new(DiscardUploadResponse {}))
    }

    async fn sign_downloads(
        &self,
        request: Request<SignDownloadsRequest>,
    ) -> Result<Response<SignDownloadsResponse>, Status> {
        let SignDownloadsRequest { job_id, attempt, token, prefix, paths } = request.into_inner();
        let id = self.admitted(&job_id, attempt, &token).await?;
        if !self.is_committed(id, &prefix).await? {
            return Err(Problem::invalid("prefix", "is not that of a checkpoint of this job").into());
        }
        let urls = uploads::sign_downloads(&self.state, &prefix, &paths).await?;
        Ok(Response::new(SignDownloadsResponse { urls }))
    }

    async fn commit_checkpoint(
        &self,
        request: Request<CommitCheckpointRequest>,
    ) -> Result<Response<CommitCheckpointResponse>, Status> {
        self.commit(request.into_inner()).await?;
        Ok(Response::new(CommitCheckpointResponse {}))
    }

    async fn finish_attempt(
        &self,
        request: Request<FinishAttemptRequest>,
    ) -> Result<Response<FinishAttemptResponse>, Status> {
        let request = request.into_inner();
        let mut transaction =
            slipway_service_kit::db::begin(&self.state.pool).await.map_err(Problem::from)?;
        let job = self.fenced(&mut transaction, &request.job_id, request.attempt, &request.token).await?;
        let ended = match Member::of(&job, request.attempt, request.process)? {
            Some(member) => member.finish(&mut transaction, &job, &request).await?,
            None => {
                let warnings = bounded(&request.warnings);
                attempts::set_warnings(&mut transaction, job.id, request.attempt, &warnings)
                    .await
                    .map_err(Problem::from)?;
                let (exit_code, signal) = (request.exit_code, request.signal);
                Some((event_of(&request), Ending { exit_code, signal, ..Ending::default() }))
            }
        };
        if let Some((event, ending)) = ended {
            let details = Details { ending, ..Details::default() };
            change::within(&self.state, &mut transaction, job, event, details).await?;
        }
        transaction.commit().await.map_err(Problem::from)?;
        self.state.committed();
        Ok(Response::new(FinishAttemptResponse {}))
    }
}

fn absent(id: Uuid) -> Problem {
    Problem::not_found(format!("job `{id}`"))
}

fn event_of(report: &FinishAttemptRequest) -> JobEvent {
    let attempt = report.attempt;
    if report.preempted && report.exit_code != Some(0) {
        return members::disrupted(attempt);
    }
    JobEvent::Finished { attempt, process: None, outcome: outcome_of(report) }
}

fn outcome_of(report: &FinishAttemptRequest) -> Outcome {
    let outcome = Outcome::from_report(
        report.exit_code,
        report.signal,
        &cleaned(&report.start_error, MAX_WARNING_CHARS),
        report.timed_out,
        report.memory_exceeded_bytes,
    );
    match outcome {
        Outcome::Exited { code: 1.. } | Outcome::Signalled { .. } if !report.gpu_fault.is_empty() => {
            Outcome::GpuFault {
                node: cleaned(&report.node, MAX_NODE_CHARS),
                message: cleaned(&report.gpu_fault, MAX_WARNING_CHARS),
            }
        }
        outcome => outcome,
    }
}

/// An agent's warnings as they are kept.
fn bounded(warnings: &[String]) -> Vec<String> {
    warnings.iter().take(MAX_WARNINGS).map(|warning| cleaned(warning, MAX_WARNING_CHARS)).collect()
}

/// A text of an agent as it is kept: Postgres takes no NUL characters.
fn cleaned(text: &str, max_chars: usize) -> String {
    text.chars().filter(|character| *character != '\0').take(max_chars).collect()
}

/// Whether a checkpoint that an agent says to have restored can be one of its job.
fn check_restored(job: &StoredJob, prefix: &str) -> Result<(), Problem> {
    let of_job = format!("{}/", uploads::prefix_of(job.id));
    let is_one = prefix.starts_with(&of_job) && prefix.len() <= MAX_PREFIX_BYTES && !prefix.contains('\0');
    if prefix.is_empty() || is_one {
        return Ok(());
    }
    Err(Problem::invalid("restored_prefix", "is not that of a checkpoint of this job"))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "validated to be 0 to an hour")]
fn grace_ms(job: &StoredJob) -> u64 {
    (job.spec.grace_period_s * 1_000.0) as u64
}
