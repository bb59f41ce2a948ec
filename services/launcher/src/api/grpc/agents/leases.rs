//! Leases: what an agent is given with its lease, and what each heartbeat renews.

use std::collections::BTreeMap;

use slipway_api::proto::launcher::HeartbeatRequest;
use slipway_domain::training::{self, HEARTBEAT_INTERVAL_MS, Manifest};
use slipway_http_server::Problem;
use sqlx::PgConnection;

use super::members::Member;
use super::{Service, bounded};
use crate::store::jobs::StoredJob;
use crate::store::{attempts, checkpoints, processes};
use crate::uploads;

/// Checkpoints that an attempt may fall back on.
const MAX_RESTORE_CANDIDATES: i64 = 16;
/// Objects of a job that a restore looks at.
const MAX_OBJECTS: usize = 200_000;

impl Service {
    /// As [`Self::renewed`] for one of several processes.
    pub(super) async fn held_by(
        &self,
        connection: &mut PgConnection,
        job: StoredJob,
        member: &Member,
    ) -> Result<StoredJob, Problem> {
        let attempt = member.key.attempt;
        attempts::give_lease(connection, job.id, attempt, self.state.lease).await?;
        match processes::hold(connection, member.key).await? {
            true => self.renewed(connection, job, attempt, None).await,
            false => Ok(job),
        }
    }

    /// The job after a heartbeat of one of several processes.
    pub(super) async fn heard_of(
        &self,
        connection: &mut PgConnection,
        job: StoredJob,
        member: &Member,
        request: &HeartbeatRequest,
    ) -> Result<StoredJob, Problem> {
        match member.renew(connection, request).await? {
            true => self.renewed(connection, job, request.attempt, None).await,
            false => Ok(job),
        }
    }

    /// The job after a heartbeat of its only process.
    pub(super) async fn heard_alone(
        &self,
        connection: &mut PgConnection,
        job: StoredJob,
        request: &HeartbeatRequest,
    ) -> Result<StoredJob, Problem> {
        let warnings = bounded(&request.warnings);
        if !warnings.is_empty() {
            attempts::set_warnings(connection, job.id, request.attempt, &warnings).await?;
        }
        let held = attempts::renew(connection, job.id, request.attempt, None).await?;
        if request.ready && !held.is_ready {
            attempts::set_ready(connection, job.id, request.attempt, &request.restored_prefix).await?;
        }
        self.heard(connection, job, request.attempt).await
    }

    /// Manifests from which the attempt may start, newest first: committed, and every object there with its
    /// length.
    pub(super) async fn restorable(&self, job: &StoredJob) -> Result<Vec<String>, Problem> {
        let Some(checkpoint) = &job.spec.checkpoint else { return Ok(Vec::new()) };
        let mut connection = self.state.pool.acquire().await?;
        let committed = checkpoints::list(&mut connection, job.id, MAX_RESTORE_CANDIDATES).await?;
        drop(connection);
        let processes = job.spec.group().map_or(1, |group| group.trainers());
        let fits = |manifest: &Manifest| manifest.fits(processes, checkpoint.resharding);
        let mut manifests: Vec<Manifest> =
            committed.into_iter().map(|checkpoint| checkpoint.manifest).filter(fits).collect();
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

/// Heartbeats of all processes of a job lock one row, so that those of very many are further apart.
pub(super) fn heartbeat_interval_ms(processes: u32) -> u64 {
    const MS_PER_PROCESS: u64 = 4;
    (u64::from(processes) * MS_PER_PROCESS).clamp(HEARTBEAT_INTERVAL_MS, 2 * HEARTBEAT_INTERVAL_MS)
}
