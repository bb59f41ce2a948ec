//! The launcher as an agent sees it: each call carries the attempt's token, and is tried again while the
//! launcher is unreachable.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret as _, SecretString};
use slipway_api::proto::launcher::agents_client::AgentsClient;
use slipway_api::proto::launcher::{
    AcquireLeaseRequest, AppendLogsRequest, CommitCheckpointRequest, FinishAttemptRequest, HeartbeatRequest,
    HeartbeatResponse, Lease,
};
use slipway_domain::training::Manifest;
use slipway_grpc_client::{TracedChannel, channel};
use tonic::{Code, Status};

use crate::Config;

/// A lease carries the job's files.
const MAX_LEASE_BYTES: usize = 32 * 1024 * 1024;
const RETRY_DELAY_MS: u64 = 250;
/// The launcher that started this agent answers within this time, or has gone.
const ACQUIRE_TIMEOUT_MS: u64 = 45_000;
/// A checkpoint that is not committed by then is uploaded afresh, the newest one first.
const COMMIT_TIMEOUT_MS: u64 = 60_000;

/// Why a call brought nothing.
#[derive(Debug)]
pub(crate) enum CallError {
    /// Another attempt has taken over, or the job is over.
    Fenced(String),
    /// The launcher does not take this request, now or later.
    Refused(String),
    /// The launcher, or what it stands on, does not answer.
    Away(String),
}

impl std::fmt::Display for CallError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fenced(reason) => write!(formatter, "this attempt has been replaced: {reason}"),
            Self::Refused(reason) => write!(formatter, "the launcher rejects the request: {reason}"),
            Self::Away(reason) => write!(formatter, "the launcher does not answer: {reason}"),
        }
    }
}

impl std::error::Error for CallError {}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        let message = status.message().to_owned();
        match status.code() {
            Code::FailedPrecondition | Code::NotFound => Self::Fenced(message),
            Code::InvalidArgument | Code::OutOfRange | Code::PermissionDenied | Code::Unauthenticated => {
                Self::Refused(message)
            }
            _ => Self::Away(message),
        }
    }
}

/// A client for one attempt. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Launcher {
    client: AgentsClient<TracedChannel>,
    job_id: String,
    attempt: u32,
    token: SecretString,
    heard: Arc<Heard>,
}

/// When the launcher last answered.
#[derive(Debug)]
struct Heard {
    begun: Instant,
    at_ms: AtomicU64,
}

impl Launcher {
    /// # Errors
    /// The launcher's URL does not parse.
    pub(crate) fn new(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            client: AgentsClient::new(channel(&config.launcher_url)?)
                .max_decoding_message_size(MAX_LEASE_BYTES),
            job_id: config.job_id.clone(),
            attempt: config.attempt,
            token: config.attempt_token.clone(),
            heard: Arc::new(Heard { begun: Instant::now(), at_ms: AtomicU64::new(0) }),
        })
    }

    /// Time since the launcher last answered.
    pub(crate) fn silence(&self) -> Duration {
        self.heard
            .begun
            .elapsed()
            .saturating_sub(Duration::from_millis(self.heard.at_ms.load(Ordering::Relaxed)))
    }

    pub(crate) async fn acquire_lease(&self) -> Result<Lease, CallError> {
        let request =
            AcquireLeaseRequest { job_id: self.job_id.clone(), attempt: self.attempt, token: self.token() };
        let acquired = self.persist(|mut client| {
            let request = request.clone();
            async move { client.acquire_lease(request).await }
        });
        tokio::time::timeout(Duration::from_millis(ACQUIRE_TIMEOUT_MS), acquired)
            .await
            .unwrap_or_else(|_| Err(CallError::Away("no lease came in time".to_owned())))
    }

    /// One heartbeat with the attempt's warnings so far, tried once.
    pub(crate) async fn heartbeat(&self, warnings: Vec<String>) -> Result<HeartbeatResponse, CallError> {
        let request = HeartbeatRequest {
            job_id: self.job_id.clone(),
            attempt: self.attempt,
            token: self.token(),
            warnings,
        };
        let answer = self.client.clone().heartbeat(request).await?.into_inner();
        self.hear();
        Ok(answer)
    }

    /// Appends to the log; answers with the offset that the launcher wants next.
    pub(crate) async fn append_logs(&self, offset_bytes: u64, chunk: Vec<u8>) -> Result<u64, CallError> {
        let request = AppendLogsRequest {
            job_id: self.job_id.clone(),
            attempt: self.attempt,
            token: self.token(),
            offset_bytes,
            chunk,
        };
        let answer = self.persist(|mut client| {
            let request = request.clone();
            async move { client.append_logs(request).await }
        });
        Ok(answer.await?.next_offset_bytes)
    }

    /// Commits a checkpoint whose objects are all stored; answers with the prefixes to be deleted.
    pub(crate) async fn commit_checkpoint(
        &self,
        manifest: &Manifest,
        json: String,
    ) -> Result<Vec<String>, CallError> {
        let request = CommitCheckpointRequest {
            job_id: self.job_id.clone(),
            attempt: self.attempt,
            token: self.token(),
            step: manifest.step,
            manifest_key: manifest.key(),
            manifest_json: json,
        };
        let answer = self.persist(|mut client| {
            let request = request.clone();
            async move { client.commit_checkpoint(request).await }
        });
        let answer = tokio::time::timeout(Duration::from_millis(COMMIT_TIMEOUT_MS), answer).await;
        let answer = answer.unwrap_or_else(|_| Err(CallError::Away("no commit came in time".to_owned())))?;
        Ok(answer.released_prefixes)
    }

    /// Reports the end. The identity in `report` is filled in here.
    pub(crate) async fn finish(&self, report: FinishAttemptRequest) -> Result<(), CallError> {
        let request = FinishAttemptRequest {
            job_id: self.job_id.clone(),
            attempt: self.attempt,
            token: self.token(),
            ..report
        };
        let answer = self.persist(|mut client| {
            let request = request.clone();
            async move { client.finish_attempt(request).await }
        });
        answer.await.map(drop)
    }

    /// Tries again while the launcher is unreachable; the caller limits how long.
    async fn persist<T, F, R>(&self, call: F) -> Result<T, CallError>
    where
        F: Fn(AgentsClient<TracedChannel>) -> R,
        R: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        loop {
            match call(self.client.clone()).await {
                Ok(answer) => {
                    self.hear();
                    return Ok(answer.into_inner());
                }
                Err(status) => match CallError::from(status) {
                    CallError::Away(reason) => tracing::debug!(%reason, "launcher unreachable"),
                    error => return Err(error),
                },
            }
            tokio::time::sleep(Duration::from_millis(RETRY_DELAY_MS)).await;
        }
    }

    fn token(&self) -> String {
        self.token.expose_secret().to_owned()
    }

    fn hear(&self) {
        let now_ms = u64::try_from(self.heard.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard.at_ms.store(now_ms, Ordering::Relaxed);
    }
}
