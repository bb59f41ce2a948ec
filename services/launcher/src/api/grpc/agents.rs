//! The agents' side: leases, heartbeats, logs, checkpoints, reports. Each call is checked against the
//! attempt's token first.

use std::collections::BTreeMap;

use slipway_api::events::CheckpointCommitted;
use slipway_api::proto::launcher::agents_server::Agents;
use slipway_api::proto::launcher::{
    AcquireLeaseRequest, AppendLogsRequest, AppendLogsResponse, BeginUploadsRequest, BeginUploadsResponse,
    CommitCheckpointRequest, CommitCheckpointResponse, CompleteUploadRequest, CompleteUploadResponse,
    DiscardUploadRequest, DiscardUploadResponse, FinishAttemptRequest, FinishAttemptResponse,
    HeartbeatRequest, HeartbeatResponse, Lease, SignDownloadsRequest, SignDownloadsResponse,
    SignPartsRequest, SignPartsResponse, UploadTarget,
};
use slipway_domain::training::{
    self, HEARTBEAT_INTERVAL_MS, Job, JobEvent, Loss, Manifest, Outcome, Status as JobStatus, check_fence,
    upload_step,
};
use slipway_http_server::Problem;
use slipway_http_server::extract::parse_json;
use sqlx::PgConnection;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::change::{self, Details, token_sha256};
use crate::logs::CHUNK_BYTES;
use crate::manage;
use crate::state::State;
use crate::store::attempts::{self, Ending, StoredLog};
use crate::store::checkpoints;
use crate::store::jobs::{self, StoredJob};
use crate::uploads::{self, Target, Upload};

/// One call of an agent carries no more of a log.
const MAX_CHUNK_BYTES: usize = 4 * 1024 * 1024;
/// Checkpoints that an attempt may fall back on.
const MAX_RESTORE_CANDIDATES: i64 = 16;
/// Warnings of an attempt that are kept.
const MAX_WARNINGS: usize = 50;
const MAX_WARNING_CHARS: usize = 1_000;
/// Objects of a job that a restore looks at.
const MAX_OBJECTS: usize = 200_000;

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
        let event = JobEvent::Heartbeat { attempt };
        let changed = change::within(&self.state, connection, job, event, Details::default()).await?;
        Ok(changed.job)
    }

    /// Manifests from which the attempt may start, newest first: committed, and every object there with its
    /// length.
    async fn restorable(&self, job: &StoredJob) -> Result<Vec<String>, Problem> {
        if job.spec.checkpoint.is_none() {
            return Ok(Vec::new());
        }
        let mut connection = self.state.pool.acquire().await?;
        let committed = checkpoints::list(&mut connection, job.id, MAX_RESTORE_CANDIDATES).await?;
        drop(connection);
        let mut manifests: Vec<Manifest> =
            committed.into_iter().map(|checkpoint| checkpoint.manifest).collect();
        if manifests.is_empty() {
            return Ok(Vec::new());
        }
        let prefix = format!("{}/", uploads::prefix_of(job.id));
        let objects = self.state.store.list(&prefix, MAX_OBJECTS).await.map_err(|error| {
            tracing::warn!(%error, job_id = %job.id, "checkpoint folder cannot be read");
            Problem::unavailable("the artifact store")
        })?;
        let listing: BTreeMap<String, u64> =
            objects.into_iter().map(|object| (object.key, object.size_bytes)).collect();
        let mut newest_first = Vec::new();
        while let Some(chosen) = training::choose_restore(&manifests, &listing).cloned() {
            newest_first.push(serde_json::to_string(&chosen).map_err(Problem::internal)?);
            manifests.retain(|manifest| manifest.prefix != chosen.prefix);
        }
        if let Some(damaged) = manifests.first() {
            tracing::warn!(job_id = %job.id, step = damaged.step, "committed checkpoint damaged; skipped");
        }
        Ok(newest_first)
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
        let job = self.renewed(&mut transaction, job, request.attempt, given).await?;
        transaction.commit().await.map_err(Problem::from)?;
        Ok(Response::new(Lease {
            spec_json: serde_json::to_string(&job.spec).map_err(Problem::internal)?,
            heartbeat_interval_ms: HEARTBEAT_INTERVAL_MS,
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
        let warnings = bounded(&request.warnings);
        if !warnings.is_empty() {
            attempts::set_warnings(&mut transaction, job.id, request.attempt, &warnings)
                .await
                .map_err(Problem::from)?;
        }
        let job = self.renewed(&mut transaction, job, request.attempt, None).await?;
        transaction.commit().await.map_err(Problem::from)?;
        Ok(Response::new(HeartbeatResponse {
            cancel: job.state.status() == JobStatus::Cancelling,
            grace_period_ms: grace_ms(&job),
            launcher_urls: self.state.launcher_urls(),
        }))
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
        let AppendLogsRequest { job_id, attempt, token, offset_bytes, chunk } = request;
        let id = self.fenced_id(&mut transaction, &job_id, attempt, &token).await?;
        let stored = attempts::log(&mut transaction, id, attempt).await.map_err(Problem::from)?;
        // Nothing was written; the lock only ordered this call after a fencing that was on its way.
        transaction.rollback().await.map_err(Problem::from)?;
        let stored = stored.unwrap_or(StoredLog::Objects(0));
        let State { logs, pool, .. } = &self.state;
        let appended = logs.append(pool, id, attempt, stored, offset_bytes, chunk.into()).await;
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
        let request = request.into_inner();
        let manifest = checked_manifest(&request)?;
        self.admitted(&request.job_id, request.attempt, &request.token).await?;
        // Not within the transaction: the store may take its time. Where another attempt has begun by now,
        // only an object is left, which the collector deletes.
        uploads::seal(&self.state, &manifest, request.manifest_json).await?;
        let mut transaction =
            slipway_service_kit::db::begin(&self.state.pool).await.map_err(Problem::from)?;
        let job = self.fenced(&mut transaction, &request.job_id, request.attempt, &request.token).await?;
        let Some(checkpoint) = &job.spec.checkpoint else {
            return Err(Problem::invalid("step", "this job has no `checkpoint`").into());
        };
        let fresh = checkpoints::insert(&mut transaction, job.id, &manifest).await.map_err(Problem::from)?;
        let committed = checkpoints::list(&mut transaction, job.id, i64::MAX).await.map_err(Problem::from)?;
        let manifests: Vec<Manifest> = committed.into_iter().map(|checkpoint| checkpoint.manifest).collect();
        let released = training::released(&manifests, checkpoint.keep);
        let released: Vec<String> = released.into_iter().map(|manifest| manifest.prefix.clone()).collect();
        checkpoints::release(&mut transaction, job.id, &released).await.map_err(Problem::from)?;
        if fresh {
            let event = CheckpointCommitted {
                job_id: job.id.to_string(),
                attempt: manifest.attempt,
                step: manifest.step,
                manifest_key: manifest.key(),
            };
            self.state.outbox.enqueue(&mut transaction, &event).await.map_err(Problem::from)?;
        }
        transaction.commit().await.map_err(Problem::from)?;
        if fresh {
            self.state.outbox.wake();
            self.state.metrics.checkpoints.inc();
        }
        if !released.is_empty() {
            self.state.released.notify_one();
        }
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
        let warnings = bounded(&request.warnings);
        attempts::set_warnings(&mut transaction, job.id, request.attempt, &warnings)
            .await
            .map_err(Problem::from)?;
        let ending = Ending { exit_code: request.exit_code, signal: request.signal, ..Ending::default() };
        let details = Details { ending, ..Details::default() };
        change::within(&self.state, &mut transaction, job, event_of(&request), details).await?;
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
        return JobEvent::AgentGone {
            attempt,
            reason: "its agent was stopped".to_owned(),
            cause: Loss::Disruption,
        };
    }
    let outcome = Outcome::from_report(
        report.exit_code,
        report.signal,
        &report.start_error,
        report.timed_out,
        report.memory_exceeded_bytes,
    );
    JobEvent::Finished { attempt, outcome }
}

/// An agent's warnings as they are kept.
fn bounded(warnings: &[String]) -> Vec<String> {
    let cut = |warning: &String| {
        warning.chars().filter(|character| *character != '\0').take(MAX_WARNING_CHARS).collect()
    };
    warnings.iter().take(MAX_WARNINGS).map(cut).collect()
}

fn checked_manifest(request: &CommitCheckpointRequest) -> Result<Manifest, Problem> {
    let manifest: Manifest = parse_json(request.manifest_json.as_bytes())?;
    manifest.validate().map_err(|invalid| {
        let invalid = invalid.under("manifest_json");
        Problem::invalid(invalid.field, invalid.message)
    })?;
    let base = uploads::prefix_of(manage::job_id(&request.job_id)?);
    let belongs = manifest.job_id == request.job_id
        && manifest.attempt == request.attempt
        && manifest.step == request.step
        && upload_step(&base, request.attempt, &manifest.prefix) == Some(request.step)
        && manifest.key() == request.manifest_key;
    if belongs {
        Ok(manifest)
    } else {
        Err(Problem::invalid("manifest_json", "belongs to another checkpoint"))
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "validated to be 0 to an hour")]
fn grace_ms(job: &StoredJob) -> u64 {
    (job.spec.grace_period_s * 1_000.0) as u64
}
