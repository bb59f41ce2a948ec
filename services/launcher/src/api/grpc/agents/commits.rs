//! Commits of checkpoints: those of one process, and those that several processes have saved in parts.

use slipway_api::events::CheckpointCommitted;
use slipway_api::proto::launcher::CommitCheckpointRequest;
use slipway_domain::training::{self, Manifest, combine, upload_prefix, upload_step};
use slipway_http_server::Problem;
use slipway_http_server::extract::parse_json;
use slipway_runtime::clock::now_unix_ms;
use slipway_runtime::id;

use super::Service;
use super::members::Member;
use crate::store::checkpoints;
use crate::{manage, uploads};

impl Service {
    /// Commits a checkpoint, or adds a part to one.
    pub(super) async fn commit(&self, request: CommitCheckpointRequest) -> Result<(), Problem> {
        let manifest = checked_manifest(&request)?;
        let Some(manifest) = self.whole(&request, manifest).await? else {
            return Ok(());
        };
        // Not within the transaction: the store may take its time. Where another attempt has begun by now,
        // only an object is left, which the collector deletes.
        uploads::seal(&self.state, &manifest).await?;
        let mut transaction = slipway_service_kit::db::begin(&self.state.pool).await?;
        let job = self.fenced(&mut transaction, &request.job_id, request.attempt, &request.token).await?;
        let keep = job.spec.checkpoint.as_ref().map_or(1, |checkpoint| checkpoint.keep);
        let fresh = checkpoints::insert(&mut transaction, job.id, &manifest).await?;
        if !manifest.parts.is_empty() {
            checkpoints::forget_parts(&mut transaction, job.id, manifest.attempt, manifest.step).await?;
        }
        let committed = checkpoints::list(&mut transaction, job.id, i64::MAX).await?;
        let manifests: Vec<Manifest> = committed.into_iter().map(|checkpoint| checkpoint.manifest).collect();
        let released = training::released(&manifests, keep);
        let released: Vec<String> = released.into_iter().map(|manifest| manifest.prefix.clone()).collect();
        checkpoints::release(&mut transaction, job.id, &released).await?;
        if fresh {
            let event = CheckpointCommitted {
                job_id: job.id.to_string(),
                attempt: manifest.attempt,
                step: manifest.step,
                manifest_key: manifest.key(),
            };
            self.state.outbox.enqueue(&mut transaction, &event).await?;
        }
        transaction.commit().await?;
        if fresh {
            self.state.outbox.wake();
            self.state.metrics.checkpoints.inc();
        }
        if !released.is_empty() {
            self.state.released.notify_one();
        }
        Ok(())
    }

    /// The checkpoint that a request commits: its own, or that of which it brings the last part. `None` where
    /// parts are missing, which other processes bring.
    async fn whole(
        &self,
        request: &CommitCheckpointRequest,
        manifest: Manifest,
    ) -> Result<Option<Manifest>, Problem> {
        let mut transaction = slipway_service_kit::db::begin(&self.state.pool).await?;
        let job = self.fenced(&mut transaction, &request.job_id, request.attempt, &request.token).await?;
        let Some(checkpoint) = &job.spec.checkpoint else {
            return Err(Problem::invalid("step", "this job has no `checkpoint`"));
        };
        let Some(Member { group, .. }) = Member::of(&job, request.attempt, request.process)? else {
            return Ok(Some(Manifest { world_size: None, ..manifest }));
        };
        let trainers = group.trainers();
        if !checkpoint.sharded && request.process == 0 {
            return Ok(Some(Manifest { world_size: Some(trainers), ..manifest }));
        }
        if !checkpoint.sharded || !group.trains(request.process) {
            return Err(Problem::invalid("process", "saves no part of this job's checkpoints"));
        }
        let parts =
            checkpoints::add_part(&mut transaction, job.id, request.process, trainers, &manifest).await?;
        transaction.commit().await?;
        let Some(parts) = parts else { return Ok(None) };
        let name = id::random().to_string();
        let prefix = upload_prefix(&uploads::prefix_of(job.id), request.step, request.attempt, &name);
        let whole = combine(&parts, &prefix, now_unix_ms())
            .map_err(|conflict| Problem::invalid("manifest_json", conflict.to_string()))?;
        if let Some(whole) = &whole {
            whole.validate().map_err(|invalid| {
                let invalid = invalid.under("manifest_json");
                Problem::invalid(invalid.field, invalid.message)
            })?;
        }
        Ok(whole)
    }
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
        && manifest.key() == request.manifest_key
        && manifest.parts.is_empty();
    if belongs {
        Ok(manifest)
    } else {
        Err(Problem::invalid("manifest_json", "belongs to another checkpoint"))
    }
}
