//! The launchers as an agent sees them: each call carries the attempt's token, goes to one of them, and is
//! tried again with the next one while none answers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::RngExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use slipway_api::proto::launcher::agents_client::AgentsClient;
use slipway_api::proto::launcher::{
    AcquireLeaseRequest, AppendLogsRequest, BeginUploadsRequest, CommitCheckpointRequest,
    CompleteUploadRequest, DiscardUploadRequest, FinishAttemptRequest, HeartbeatRequest, HeartbeatResponse,
    Lease, SignDownloadsRequest, SignPartsRequest, UploadFile, UploadTarget,
};
use slipway_domain::training::Manifest;
use slipway_grpc_client::TracedChannel;
use tokio::sync::watch;
use tonic::{Code, Status};

use crate::Config;
use crate::addresses::Addresses;
use crate::group::Told;
use crate::guard::monotonic_ms;

/// Longest pause before a call is tried again, at first and at last; each pause is a random part of it.
const FIRST_RETRY_DELAY_MS: u64 = 250;
const LAST_RETRY_DELAY_MS: u64 = 2_000;
/// A launcher answers within this time, or the attempt is started again.
const ACQUIRE_TIMEOUT_MS: u64 = 45_000;
/// A call about a checkpoint is answered within this time, or the checkpoint is uploaded afresh, the newest
/// one first.
const CHECKPOINT_TIMEOUT_MS: u64 = 60_000;

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

/// The lease of an attempt with several processes: it is renewed when all of them have renewed it, so that
/// none of them goes on while another is missed.
#[derive(Debug, Default)]
struct SharedLease {
    /// How often it was renewed, as far as is known.
    renewals: u64,
    /// When the heartbeat before this one was sent.
    before_ms: u64,
}

impl SharedLease {
    /// Start of the renewed lease, from the answer to a heartbeat; `None` if the lease was not renewed. Never
    /// later than the renewal itself: the answer to the previous heartbeat did not have it.
    fn renewed_at_ms(&mut self, sent_at_ms: u64, renewals: Option<u64>) -> Option<u64> {
        let before_ms = std::mem::replace(&mut self.before_ms, sent_at_ms);
        match renewals {
            // Only this process, or nothing runs before all have renewed it once.
            None | Some(0) => Some(sent_at_ms),
            Some(renewals) if renewals > self.renewals => {
                self.renewals = renewals;
                Some(before_ms)
            }
            Some(_) => None,
        }
    }
}

/// A client for one attempt. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Launcher {
    addresses: Addresses,
    job_id: String,
    attempt: u32,
    /// Number of the process in a distributed job.
    process: u32,
    token: SecretString,
    /// The renewals of a distributed job's lease.
    shared: Arc<Mutex<SharedLease>>,
    /// When the last renewal of the lease that was answered had been sent, by [`monotonic_ms`].
    renewed_at_ms: watch::Sender<u64>,
}

impl Launcher {
    /// # Errors
    /// A launcher's URL does not parse.
    pub(crate) fn new(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            addresses: Addresses::new(&config.launcher_url)?,
            job_id: config.job_id.clone(),
            attempt: config.attempt,
            process: config.process.unwrap_or(0),
            token: config.attempt_token.clone(),
            shared: Arc::default(),
            renewed_at_ms: watch::channel(monotonic_ms()).0,
        })
    }

    /// Time since a renewal of the lease was sent that was answered.
    pub(crate) fn unrenewed(&self) -> Duration {
        Duration::from_millis(monotonic_ms().saturating_sub(*self.renewed_at_ms.borrow()))
    }

    /// When renewals that were answered had been sent, by [`monotonic_ms`].
    pub(crate) fn renewals(&self) -> watch::Receiver<u64> {
        self.renewed_at_ms.subscribe()
    }

    pub(crate) async fn acquire_lease(&self) -> Result<Lease, CallError> {
        let request = AcquireLeaseRequest {
            job_id: self.job_id.clone(),
            attempt: self.attempt,
            token: self.token(),
            ends_with_lease: true,
            process: self.process,
        };
        let acquired = self.persist(request, |mut client, request| {
            let sent_at_ms = monotonic_ms();
            async move { Ok(client.acquire_lease(request).await?.map(|lease| (lease, sent_at_ms))) }
        });
        let (lease, sent_at_ms) = tokio::time::timeout(Duration::from_millis(ACQUIRE_TIMEOUT_MS), acquired)
            .await
            .unwrap_or_else(|_| Err(CallError::Away("no lease came in time".to_owned())))?;
        self.renewed(sent_at_ms, &lease.launcher_urls);
        Ok(lease)
    }

    /// One heartbeat with the attempt's warnings so far, tried once and for at most `limit`. Where it fails,
    /// the next call goes to another launcher.
    pub(crate) async fn heartbeat(
        &self,
        warnings: Vec<String>,
        told: Told,
        limit: Duration,
    ) -> Result<HeartbeatResponse, CallError> {
        let request = HeartbeatRequest {
            job_id: self.job_id.clone(),
            attempt: self.attempt,
            token: self.token(),
            warnings,
            process: self.process,
            ready: told.ready,
            restored_prefix: told.restored,
            stopping: told.stopping,
        };
        let mut current = self.addresses.current();
        let sent_at_ms = monotonic_ms();
        let called = tokio::time::timeout(limit, current.client.heartbeat(request)).await;
        let answered = match called {
            Ok(answered) => answered.map_err(CallError::from),
            Err(_) => Err(CallError::Away("no answer in time".to_owned())),
        };
        match answered {
            Ok(answer) => {
                let answer = answer.into_inner();
                let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
                let renewed_at_ms = shared.renewed_at_ms(sent_at_ms, answer.renewals);
                drop(shared);
                if let Some(renewed_at_ms) = renewed_at_ms {
                    self.renewed(renewed_at_ms, &answer.launcher_urls);
                }
                Ok(answer)
            }
            Err(error) => {
                self.addresses.turn_away(&current.url);
                Err(error)
            }
        }
    }

    /// Appends to the log; answers with the offset that the launcher wants next.
    pub(crate) async fn append_logs(&self, offset_bytes: u64, chunk: Vec<u8>) -> Result<u64, CallError> {
        let request = AppendLogsRequest {
            job_id: self.job_id.clone(),
            attempt: self.attempt,
            token: self.token(),
            offset_bytes,
            chunk,
            process: self.process,
        };
        let answer =
            self.persist(request, |mut client, request| async move { client.append_logs(request).await });
        Ok(answer.await?.next_offset_bytes)
    }

    /// Where the files of an upload are stored, in their order.
    pub(crate) async fn begin_uploads(
        &self,
        prefix: &str,
        files: Vec<UploadFile>,
    ) -> Result<Vec<UploadTarget>, CallError> {
        let request = BeginUploadsRequest {
            job_id: self.job_id.clone(),
            attempt: self.attempt,
            token: self.token(),
            prefix: prefix.to_owned(),
            files,
        };
        let answer =
            self.persist(request, |mut client, request| async move { client.begin_uploads(request).await });
        Ok(in_time(answer).await?.targets)
    }

    /// URLs for parts of a file, beginning with part `first` of those that are counted from 1.
    pub(crate) async fn sign_parts(
        &self,
        prefix: &str,
        path: &str,
        upload_id: &str,
        first: u32,
        count: u32,
    ) -> Result<Vec<String>, CallError> {
        let request = SignPartsRequest {
            job_id: self.job_id.clone(),
            attempt: self.attempt,
            token: self.token(),
            prefix: prefix.to_owned(),
            path: path.to_owned(),
            upload_id: upload_id.to_owned(),
            first_part: first,
            count,
        };
        let answer =
            self.persist(request, |mut client, request| async move { client.sign_parts(request).await });
        Ok(in_time(answer).await?.urls)
    }

    /// Makes one object of a file's parts, by the ETag of each.
    pub(crate) async fn complete_upload(
        &self,
        prefix: &str,
        path: &str,
        upload_id: &str,
        etags: Vec<String>,
    ) -> Result<(), CallError> {
        let request = CompleteUploadRequest {
            job_id: self.job_id.clone(),
            attempt: self.attempt,
            token: self.token(),
            prefix: prefix.to_owned(),
            path: path.to_owned(),
            upload_id: upload_id.to_owned(),
            etags,
        };
        let answer =
            self.persist(request, |mut client, request| async move { client.complete_upload(request).await });
        in_time(answer).await.map(drop)
    }

    /// Deletes what an upload has stored.
    pub(crate) async fn discard_upload(&self, prefix: &str) -> Result<(), CallError> {
        let request = DiscardUploadRequest {
            job_id: self.job_id.clone(),
            attempt: self.attempt,
            token: self.token(),
            prefix: prefix.to_owned(),
        };
        let answer =
            self.persist(request, |mut client, request| async move { client.discard_upload(request).await });
        in_time(answer).await.map(drop)
    }

    /// URLs of files of a committed checkpoint, in order.
    pub(crate) async fn sign_downloads(
        &self,
        prefix: &str,
        paths: Vec<String>,
    ) -> Result<Vec<String>, CallError> {
        let request = SignDownloadsRequest {
            job_id: self.job_id.clone(),
            attempt: self.attempt,
            token: self.token(),
            prefix: prefix.to_owned(),
            paths,
        };
        let answer =
            self.persist(request, |mut client, request| async move { client.sign_downloads(request).await });
        Ok(in_time(answer).await?.urls)
    }

    /// Commits a checkpoint whose files are all stored.
    pub(crate) async fn commit_checkpoint(&self, manifest: &Manifest, json: String) -> Result<(), CallError> {
        let request = CommitCheckpointRequest {
            job_id: self.job_id.clone(),
            attempt: self.attempt,
            token: self.token(),
            step: manifest.step,
            manifest_key: manifest.key(),
            manifest_json: json,
            process: self.process,
        };
        let answer = self
            .persist(request, |mut client, request| async move { client.commit_checkpoint(request).await });
        in_time(answer).await.map(drop)
    }

    /// Reports the end. The identity in `report` is filled in here.
    pub(crate) async fn finish(&self, report: FinishAttemptRequest) -> Result<(), CallError> {
        let request = FinishAttemptRequest {
            job_id: self.job_id.clone(),
            attempt: self.attempt,
            token: self.token(),
            process: self.process,
            ..report
        };
        let answer =
            self.persist(request, |mut client, request| async move { client.finish_attempt(request).await });
        answer.await.map(drop)
    }

    /// Tries again, with one launcher after the other, while they are unreachable; the caller limits how
    /// long.
    async fn persist<Q, T, F, R>(&self, request: Q, call: F) -> Result<T, CallError>
    where
        Q: Clone,
        F: Fn(AgentsClient<TracedChannel>, Q) -> R,
        R: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let mut most_ms = FIRST_RETRY_DELAY_MS;
        loop {
            let current = self.addresses.current();
            match call(current.client, request.clone()).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => match CallError::from(status) {
                    CallError::Away(reason) => {
                        tracing::debug!(%reason, url = %current.url, "launcher unreachable");
                        self.addresses.turn_away(&current.url);
                    }
                    error => return Err(error),
                },
            }
            tokio::time::sleep(jittered(most_ms)).await;
            most_ms = (most_ms * 2).min(LAST_RETRY_DELAY_MS);
        }
    }

    fn token(&self) -> String {
        self.token.expose_secret().to_owned()
    }

    fn renewed(&self, sent_at_ms: u64, launcher_urls: &[String]) {
        self.addresses.learn(launcher_urls);
        self.renewed_at_ms.send_modify(|at_ms| *at_ms = sent_at_ms.max(*at_ms));
    }
}

/// The answer to a call about a checkpoint.
async fn in_time<T>(answer: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
    let answer = tokio::time::timeout(Duration::from_millis(CHECKPOINT_TIMEOUT_MS), answer).await;
    answer.unwrap_or_else(|_| Err(CallError::Away("no answer came in time".to_owned())))
}

/// A random pause of at most so many milliseconds, so that agents that lost one launcher do not all come to
/// the next one at once.
pub(crate) fn jittered(most_ms: u64) -> Duration {
    Duration::from_millis(rand::rng().random_range(most_ms / 4..=most_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_lease_is_not_longer_than_that_of_the_process_that_is_missed() {
        let mut shared = SharedLease::default();
        assert_eq!(shared.renewed_at_ms(10, Some(0)), Some(10), "nothing runs yet");
        assert_eq!(shared.renewed_at_ms(20, Some(1)), Some(10));
        assert_eq!(shared.renewed_at_ms(30, Some(1)), None, "one of the others is missed");
        assert_eq!(shared.renewed_at_ms(40, Some(1)), None);
        assert_eq!(shared.renewed_at_ms(50, Some(2)), Some(40));
        assert_eq!(SharedLease::default().renewed_at_ms(10, None), Some(10), "a job with one process");
    }
}
