//! The token that a job shows the registry: one for each attempt, from the registry, revoked when the attempt
//! has ended.
//!
//! That a token may exist is committed before the registry is asked for it, so that a launcher which is
//! killed in between revokes it after its next start.

use std::time::Duration;

use anyhow::Context as _;
use secrecy::{ExposeSecret as _, SecretString};
use slipway_api::proto::registry::job_tokens_client::JobTokensClient;
use slipway_api::proto::registry::{IssueJobTokenRequest, RevokeJobTokensRequest};
use slipway_domain::training::JobSpec;
use slipway_grpc_client::TracedChannel;
use slipway_http_server::Problem;
use slipway_service_kit::db::while_open;
use slipway_service_kit::registry::{RegistryToken, registry_channel, registry_channel_by_file};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::JobsConfig;
use crate::store::jobs;

/// Tokens of ended attempts are looked for this often.
const INTERVAL_MS: u64 = 2_000;
/// While the registry does not answer.
const RETRY_MS: u64 = 5_000;
/// A registry that takes longer does not keep other jobs waiting.
const ISSUE_TIMEOUT_MS: u64 = 5_000;
const BATCH: i64 = 32;
/// For a job without `timeout_s`, seconds.
const DEFAULT_LIFE_S: u64 = 30 * 24 * 3_600;
/// After a job's `timeout_s` and grace period, seconds: it may wait for a slow machine.
const SPARE_S: u64 = 3_600;
/// What the registry issues at most, seconds.
const MAX_LIFE_S: u64 = 90 * 24 * 3_600;

/// Where tokens of jobs come from. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) enum JobTokens {
    /// Jobs show none: access is off.
    None,
    /// All jobs show the one that is configured; the agent gets it with its other secrets.
    Configured,
    /// The registry issues one for each attempt.
    Issued(Box<JobTokensClient<TracedChannel>>),
}

impl JobTokens {
    /// # Errors
    /// The registry's address or the launcher's token cannot be used.
    pub(crate) fn new(config: &JobsConfig) -> anyhow::Result<Self> {
        if config.job_token.is_some() {
            return Ok(Self::Configured);
        }
        let token = config.launcher_token.clone().filter(|token| !token.expose_secret().is_empty());
        const TOKENS: &str = "jobs need tokens (--launcher-token or SLIPWAY_LAUNCHER_TOKEN)";
        let channel = match token {
            Some(token) => {
                let token = RegistryToken::of(token).resolve().context(TOKENS)?;
                registry_channel(&config.registry_url, &token).context(TOKENS)?
            }
            None => match registry_channel_by_file(&config.registry_url, &config.token_file)? {
                Some(channel) => channel,
                None => return Ok(Self::None),
            },
        };
        Ok(Self::Issued(Box::new(JobTokensClient::new(channel))))
    }

    /// A token for the attempt that is about to start, where jobs get tokens of their own.
    ///
    /// # Errors
    /// The registry does not issue one; says why.
    pub(crate) async fn issue(
        &self,
        pool: &PgPool,
        job_id: Uuid,
        spec: &JobSpec,
    ) -> Result<Option<SecretString>, String> {
        let Self::Issued(client) = self else { return Ok(None) };
        let refused =
            |why: &dyn std::fmt::Display| format!("the registry issues no token for the job: {why}");
        jobs::set_has_token(pool, job_id, true).await.map_err(|error| refused(&error))?;
        let request = IssueJobTokenRequest { job_id: job_id.to_string(), expires_in_s: life_s(spec) };
        let mut client = JobTokensClient::clone(client);
        let issued = tokio::time::timeout(Duration::from_millis(ISSUE_TIMEOUT_MS), client.issue(request));
        match issued.await {
            // A registry whose access is off issues none, and needs none.
            Ok(Ok(issued)) => {
                Ok(Some(issued.into_inner().token).filter(|token| !token.is_empty()).map(Into::into))
            }
            Ok(Err(status)) => Err(refused(&status.message())),
            Err(_) => Err(refused(&"it does not answer")),
        }
    }

    /// Revokes tokens of jobs without an attempt until `shutdown`.
    pub(crate) async fn revoke_ended(self, pool: PgPool, shutdown: CancellationToken) {
        let Self::Issued(client) = self else { return shutdown.cancelled().await };
        let mut failing = false;
        loop {
            let wait_ms = match revoke_some(&client, &pool).await {
                Ok(()) => {
                    failing = false;
                    INTERVAL_MS
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "tokens of ended jobs not revoked; retrying");
                    }
                    RETRY_MS
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
            }
        }
    }
}

async fn revoke_some(client: &JobTokensClient<TracedChannel>, pool: &PgPool) -> Result<(), Problem> {
    for id in jobs::with_stale_token(pool, BATCH).await? {
        let mut transaction = slipway_service_kit::db::begin(pool).await?;
        // Locked: an attempt that starts meanwhile waits, and its token is not the one that is revoked.
        let ended = jobs::lock(&mut transaction, id).await?.is_some_and(|job| !job.state.has_attempt());
        if !ended {
            continue;
        }
        let mut client = client.clone();
        let revoked = client.revoke(RevokeJobTokensRequest { job_id: id.to_string() });
        while_open(&mut transaction, revoked).await??;
        jobs::set_has_token(&mut *transaction, id, false).await?;
        transaction.commit().await?;
    }
    Ok(())
}

/// Seconds that a token of this job lasts where nothing revokes it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "validated to be positive and finite"
)]
fn life_s(spec: &JobSpec) -> u64 {
    let bounded = spec.timeout_s.map(|timeout_s| (timeout_s + spec.grace_period_s).ceil() as u64);
    bounded.map_or(DEFAULT_LIFE_S, |life_s| life_s.saturating_add(SPARE_S)).min(MAX_LIFE_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lasts_somewhat_longer_than_its_job_may() {
        let spec = |body: serde_json::Value| serde_json::from_value::<JobSpec>(body).unwrap();
        let job = serde_json::json!({"name": "j", "command": ["true"]});
        assert_eq!(life_s(&spec(job.clone())), DEFAULT_LIFE_S);
        let timed = |timeout_s: f64| {
            let mut job = job.clone();
            job["timeout_s"] = timeout_s.into();
            job["grace_period_s"] = 5.into();
            life_s(&spec(job))
        };
        assert_eq!(timed(10.5), 16 + SPARE_S);
        assert_eq!(timed(1e12), MAX_LIFE_S);
    }
}
