//! A launcher that does what a test says. The real one keeps its promises; an agent has to get along with one
//! that is lost, late, or has given the attempt to another.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use slipway_api::proto::launcher::agents_server::{Agents, AgentsServer};
use slipway_api::proto::launcher::{
    AcquireLeaseRequest, AppendLogsRequest, AppendLogsResponse, CommitCheckpointRequest,
    CommitCheckpointResponse, FinishAttemptRequest, FinishAttemptResponse, HeartbeatRequest,
    HeartbeatResponse, Lease,
};
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
    /// Prefixes of checkpoints that the next commit releases.
    pub(crate) released: Vec<String>,
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

    async fn commit_checkpoint(
        &self,
        request: Request<CommitCheckpointRequest>,
    ) -> Result<Response<CommitCheckpointResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.admit(&request.token)?;
        if !state.commits.iter().any(|commit| commit.manifest_key == request.manifest_key) {
            state.commits.push(request);
        }
        let released_prefixes = std::mem::take(&mut state.released);
        sent(state, CommitCheckpointResponse { released_prefixes })
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
