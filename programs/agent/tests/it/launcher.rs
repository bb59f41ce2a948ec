//! A launcher that does what a test says. The real one keeps its promises; an agent has to get along with one
//! that is lost, late, or has given the attempt to another.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use slipway_api::proto::launcher::agents_server::{Agents, AgentsServer};
use slipway_api::proto::launcher::{
    AcquireLeaseRequest, AppendLogsRequest, AppendLogsResponse, BeginUploadsRequest, BeginUploadsResponse,
    CommitCheckpointRequest, CommitCheckpointResponse, CompleteUploadRequest, CompleteUploadResponse,
    DiscardUploadRequest, DiscardUploadResponse, FinishAttemptRequest, FinishAttemptResponse,
    HeartbeatRequest, HeartbeatResponse, Lease, SignDownloadsRequest, SignDownloadsResponse,
    SignPartsRequest, SignPartsResponse, UploadTarget,
};
use slipway_artifact_store::{ArtifactStore, UploadedPart};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// The token of every attempt.
pub(crate) const TOKEN: &str = "the-token-of-this-attempt";
/// An agent hears of a cancellation within this time.
const HEARTBEAT_INTERVAL_MS: u64 = 50;
/// After two thirds of it an agent without a launcher ends its command, after five sixths its guard does.
pub(crate) const LEASE_MS: u64 = 6_000;
/// Agents begin what they send of a log at a multiple of this.
const LOG_CHUNK_BYTES: u64 = 64 * 1024;

/// What a launcher answers.
#[derive(Debug, Clone, Default)]
pub(crate) enum Mood {
    /// What is asked for.
    #[default]
    Fine,
    /// Nothing: it is starting, or the network is gone.
    Unreachable,
    /// Another attempt has taken over.
    Fenced,
    /// The token is wrong.
    Refusing,
}

/// What the launcher knows, and how it answers.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// How it answers.
    pub(crate) mood: Mood,
    /// The attempt's log so far.
    pub(crate) log: Vec<u8>,
    /// Heartbeats that came, answered or not.
    pub(crate) heartbeats: usize,
    /// Warnings of the last one.
    pub(crate) warnings: Vec<String>,
    /// Leases that were asked for.
    pub(crate) leases: usize,
    /// Checkpoints that were committed.
    pub(crate) commits: Vec<CommitCheckpointRequest>,
    /// Ends that were reported.
    pub(crate) reports: Vec<FinishAttemptRequest>,
    /// Grace period of the cancellation, where the job is cancelled.
    pub(crate) cancelled_ms: Option<u64>,
    /// So many of the next answers get lost after the launcher has acted.
    pub(crate) lost_answers: usize,
    /// Where checkpoints are.
    pub(crate) store: Option<ArtifactStore>,
    /// Files that are longer are uploaded in parts of this size; 0 for none.
    pub(crate) parts_from_bytes: u64,
    /// So many of the next URLs are ones that the store refuses.
    pub(crate) bad_urls: usize,
    /// Time before a commit is made.
    pub(crate) commit_delay: Duration,
    /// Chunks of the log that were taken.
    pub(crate) chunks: usize,
    lease: Lease,
}

/// A launcher for one attempt.
#[derive(Debug, Clone)]
pub(crate) struct Launcher {
    state: Arc<Mutex<State>>,
    _end: Arc<DropGuard>,
    /// `http://127.0.0.1:<port>`.
    pub(crate) url: Arc<str>,
}

impl Launcher {
    /// A launcher that hands out this job.
    pub(crate) async fn begin(spec: &serde_json::Value) -> Self {
        let lease = Lease {
            spec_json: spec.to_string(),
            heartbeat_interval_ms: HEARTBEAT_INTERVAL_MS,
            lease_ms: LEASE_MS,
            checkpoint_prefix: "checkpoints/job".to_owned(),
            max_log_bytes: 1024 * 1024,
            log_chunk_bytes: LOG_CHUNK_BYTES,
            ..Lease::default()
        };
        let state = Arc::new(Mutex::new(State { lease, ..State::default() }));
        Self::with(state).await
    }

    /// Another launcher that knows what this one does.
    pub(crate) async fn replica(&self) -> Self {
        Self::with(Arc::clone(&self.state)).await
    }

    async fn with(state: Arc<Mutex<State>>) -> Self {
        let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let end = CancellationToken::new();
        let service = AgentsServer::new(Service { state: Arc::clone(&state) });
        let served = Server::builder()
            .add_service(service)
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), end.clone().cancelled_owned());
        tokio::spawn(served);
        Self { state, _end: Arc::new(end.drop_guard()), url: url.into() }
    }

    /// What it knows.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Changes the lease that it hands out.
    pub(crate) fn lease(&self, change: impl FnOnce(&mut Lease)) {
        change(&mut self.state().lease);
    }

    /// Answers like this from now on.
    pub(crate) fn becomes(&self, mood: Mood) {
        self.state().mood = mood;
    }

    /// The log as text.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&self.state().log).into_owned()
    }

    /// The one report of the attempt's end.
    pub(crate) fn report(&self) -> FinishAttemptRequest {
        let state = self.state();
        assert_eq!(state.reports.len(), 1, "{:?}", state.reports);
        state.reports[0].clone()
    }
}

struct Service {
    state: Arc<Mutex<State>>,
}

impl Service {
    /// Whether a call is answered.
    fn admit(&self, token: &str) -> Result<MutexGuard<'_, State>, Status> {
        assert_eq!(token, TOKEN, "each call shows the attempt's token");
        let state = self.state.lock().unwrap();
        match state.mood {
            Mood::Fine => Ok(state),
            Mood::Unreachable => Err(Status::unavailable("it is starting")),
            Mood::Fenced => Err(Status::failed_precondition("attempt 2 has begun")),
            Mood::Refusing => Err(Status::permission_denied("the token is wrong")),
        }
    }
}

/// URLs are valid for this long.
const VALID: Duration = Duration::from_secs(600);

impl Service {
    fn store(&self, token: &str) -> Result<ArtifactStore, Status> {
        Ok(self.admit(token)?.store.clone().expect("a test with checkpoints has a store"))
    }

    /// The URL, or one that the store refuses.
    fn signed(&self, url: String) -> String {
        let mut state = self.state.lock().unwrap();
        if state.bad_urls == 0 {
            return url;
        }
        state.bad_urls -= 1;
        url.replace("X-Amz-Signature=", "X-Amz-Signature=0")
    }
}

fn failed(error: slipway_artifact_store::Error) -> Status {
    Status::unavailable(error.to_string())
}

/// The answer, unless it gets lost on its way.
fn sent<T>(mut state: MutexGuard<'_, State>, answer: T) -> Result<Response<T>, Status> {
    if state.lost_answers > 0 {
        state.lost_answers -= 1;
        return Err(Status::unavailable("the connection broke before the answer"));
    }
    Ok(Response::new(answer))
}

#[tonic::async_trait]
impl Agents for Service {
    async fn acquire_lease(&self, request: Request<AcquireLeaseRequest>) -> Result<Response<Lease>, Status> {
        self.state.lock().unwrap().leases += 1;
        assert!(request.get_ref().ends_with_lease);
        let state = self.admit(&request.get_ref().token)?;
        let lease = state.lease.clone();
        sent(state, lease)
    }

    async fn heartbeat(
        &self,
        request: Request<HeartbeatRequest>,
    ) -> Result<Response<HeartbeatResponse>, Status> {
        self.state.lock().unwrap().heartbeats += 1;
        let request = request.into_inner();
        let mut state = self.admit(&request.token)?;
        state.warnings = request.warnings;
        Ok(Response::new(HeartbeatResponse {
            cancel: state.cancelled_ms.is_some(),
            grace_period_ms: state.cancelled_ms.unwrap_or(0),
            launcher_urls: state.lease.launcher_urls.clone(),
            ..HeartbeatResponse::default()
        }))
    }

    async fn append_logs(
        &self,
        request: Request<AppendLogsRequest>,
    ) -> Result<Response<AppendLogsResponse>, Status> {
        let AppendLogsRequest { token, offset_bytes, chunk, .. } = request.into_inner();
        let mut state = self.admit(&token)?;
        let known = state.log.len();
        let offset = usize::try_from(offset_bytes).unwrap();
        // What is known already is not appended twice; what came too early is asked for again from where the
        // log ends.
        if let Some(news) = known.checked_sub(offset).and_then(|seen| chunk.get(seen..)) {
            state.log.extend_from_slice(news);
            state.chunks += 1;
        }
        let next_offset_bytes = state.log.len() as u64;
        sent(state, AppendLogsResponse { next_offset_bytes })
    }

    async fn begin_uploads(
        &self,
        request: Request<BeginUploadsRequest>,
    ) -> Result<Response<BeginUploadsResponse>, Status> {
        let BeginUploadsRequest { token, prefix, files, .. } = request.into_inner();
        assert!(files.len() <= 256);
        let store = self.store(&token)?;
        let part_bytes = self.state.lock().unwrap().parts_from_bytes;
        let mut targets = Vec::new();
        for file in files {
            let key = format!("{prefix}/{}", file.path);
            targets.push(if part_bytes > 0 && file.size_bytes > part_bytes {
                let upload_id = store.begin_parts(&key).await.map_err(failed)?;
                UploadTarget { upload_id, part_bytes, ..UploadTarget::default() }
            } else {
                let url = self.signed(store.presigned_put(&key, VALID).await.map_err(failed)?);
                UploadTarget { url, ..UploadTarget::default() }
            });
        }
        Ok(Response::new(BeginUploadsResponse { targets }))
    }

    async fn sign_parts(
        &self,
        request: Request<SignPartsRequest>,
    ) -> Result<Response<SignPartsResponse>, Status> {
        let SignPartsRequest { token, prefix, path, upload_id, first_part, count, .. } = request.into_inner();
        let (store, key) = (self.store(&token)?, format!("{prefix}/{path}"));
        let mut urls = Vec::new();
        for number in first_part..first_part + count {
            let url = store.presigned_part(&key, &upload_id, number.cast_signed(), VALID).await;
            urls.push(self.signed(url.map_err(failed)?));
        }
        Ok(Response::new(SignPartsResponse { urls }))
    }

    async fn complete_upload(
        &self,
        request: Request<CompleteUploadRequest>,
    ) -> Result<Response<CompleteUploadResponse>, Status> {
        let CompleteUploadRequest { token, prefix, path, upload_id, etags, .. } = request.into_inner();
        let parts: Vec<UploadedPart> =
            (1..).zip(etags).map(|(number, etag)| UploadedPart { number, etag }).collect();
        let stored =
            self.store(&token)?.complete_parts(&format!("{prefix}/{path}"), &upload_id, &parts).await;
        stored.map_err(failed)?;
        Ok(Response::new(CompleteUploadResponse {}))
    }

    async fn discard_upload(
        &self,
        request: Request<DiscardUploadRequest>,
    ) -> Result<Response<DiscardUploadResponse>, Status> {
        let DiscardUploadRequest { token, prefix, .. } = request.into_inner();
        let store = self.store(&token)?;
        for object in store.list(&format!("{prefix}/"), 1_000).await.map_err(failed)? {
            store.delete(&object.key).await.map_err(failed)?;
        }
        Ok(Response::new(DiscardUploadResponse {}))
    }

    async fn sign_downloads(
        &self,
        request: Request<SignDownloadsRequest>,
    ) -> Result<Response<SignDownloadsResponse>, Status> {
        let SignDownloadsRequest { token, prefix, paths, .. } = request.into_inner();
        assert!(paths.len() <= 256);
        let store = self.store(&token)?;
        let mut urls = Vec::new();
        for path in paths {
            let url = store.presigned_get(&format!("{prefix}/{path}"), VALID).await;
            urls.push(self.signed(url.map_err(failed)?));
        }
        Ok(Response::new(SignDownloadsResponse { urls }))
    }

    async fn commit_checkpoint(
        &self,
        request: Request<CommitCheckpointRequest>,
    ) -> Result<Response<CommitCheckpointResponse>, Status> {
        let request = request.into_inner();
        let delay = self.state.lock().unwrap().commit_delay;
        tokio::time::sleep(delay).await;
        let manifest = request.manifest_json.clone().into_bytes();
        let stored = self.store(&request.token)?.put_if_absent(&request.manifest_key, manifest.into()).await;
        stored.map_err(failed)?;
        let mut state = self.admit(&request.token)?;
        if !state.commits.iter().any(|commit| commit.manifest_key == request.manifest_key) {
            state.commits.push(request);
        }
        sent(state, CommitCheckpointResponse {})
    }

    async fn finish_attempt(
        &self,
        request: Request<FinishAttemptRequest>,
    ) -> Result<Response<FinishAttemptResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.admit(&request.token)?;
        state.reports.retain(|report| *report != request);
        state.reports.push(request);
        sent(state, FinishAttemptResponse {})
    }
}
