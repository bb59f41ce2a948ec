//! Logs as text, as they are or as they grow.

use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State as Shared;
use axum::response::{IntoResponse as _, Response};
use http::header;
use serde::Deserialize;
use slipway_http_server::Problem;
use slipway_http_server::extract::{Path, Query};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::manage::{find, job_id};
use crate::state::State;

/// A followed log is looked at this often.
const FOLLOW_INTERVAL_MS: u64 = 150;
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks that wait for a slow reader.
const QUEUE_CHUNKS: usize = 8;

/// Which log, and whether to stay.
#[derive(Debug, Deserialize)]
pub(super) struct LogsQuery {
    /// One attempt only; otherwise all of them in order.
    attempt: Option<u32>,
    /// Go on until the job, or the attempt, has ended.
    #[serde(default)]
    follow: bool,
}

/// The reader has gone, or the service stops.
struct Ended;

struct Follower {
    state: State,
    job_id: Uuid,
    follow: bool,
    chunks: mpsc::Sender<io::Result<Bytes>>,
}

pub(super) async fn read(
    Shared(state): Shared<State>,
    Path(id): Path<String>,
    Query(query): Query<LogsQuery>,
) -> Result<Response, Problem> {
    let job = find(&state, job_id(&id)?).await?;
    if let Some(attempt) = query.attempt
        && (attempt == 0 || attempt > job.state.attempt())
    {
        return Err(Problem::not_found(format!(
            "attempt {attempt} of job `{id}`; it has had {}",
            job.state.attempt()
        )));
    }
    let (chunks, receiver) = mpsc::channel(QUEUE_CHUNKS);
    let follower = Follower { state: state.clone(), job_id: job.id, follow: query.follow, chunks };
    let shutdown = state.shutdown.clone();
    state.followers.spawn(async move {
        tokio::select! {
            _ = follower.run(query.attempt) => {}
            () = shutdown.cancelled() => {}
        }
    });
    let stream = futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        // What a job prints is no page of this server.
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, Body::from_stream(stream)).into_response())
}

impl Follower {
    async fn run(self, only: Option<u32>) -> Result<(), Ended> {
        let mut attempt = only.unwrap_or(1);
        loop {
            if !self.has_begun(attempt).await? {
                return Ok(());
            }
            if only.is_none() && attempt > 1 {
                self.send(Bytes::from(format!("==> attempt {attempt} <==\n"))).await?;
            }
            self.copy(attempt).await?;
            if only.is_some() {
                return Ok(());
            }
            attempt += 1;
        }
    }

    /// Waits for the attempt where the reader follows; `false` where it will not come.
    async fn has_begun(&self, attempt: u32) -> Result<bool, Ended> {
        loop {
            match find(&self.state, self.job_id).await {
                Ok(job) if job.state.attempt() >= attempt => return Ok(true),
                Ok(job) if !self.follow || job.state.status().is_final() => return Ok(false),
                // The database comes back; a reader who follows has time.
                Ok(_) | Err(_) => self.pause().await?,
            }
        }
    }

    async fn copy(&self, attempt: u32) -> Result<(), Ended> {
        let path = self.state.logs.path(self.job_id, attempt);
        let mut file = None;
        loop {
            // Asked before reading: what is written before the end is read after it.
            let over = !self.follow || self.is_over(attempt).await;
            if file.is_none() {
                file = File::open(&path).await.ok();
            }
            if let Some(file) = file.as_mut() {
                self.send_rest(file).await?;
            }
            if over {
                return Ok(());
            }
            self.pause().await?;
        }
    }

    async fn is_over(&self, attempt: u32) -> bool {
        find(&self.state, self.job_id)
            .await
            .is_ok_and(|job| job.state.attempt() != attempt || !job.state.has_attempt())
    }

    async fn send_rest(&self, file: &mut File) -> Result<(), Ended> {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            match file.read(&mut buffer).await {
                Ok(0) => return Ok(()),
                Ok(length) => self.send(Bytes::copy_from_slice(&buffer[..length])).await?,
                Err(error) => {
                    tracing::error!(%error, job_id = %self.job_id, "log cannot be read");
                    let _ = self.chunks.send(Err(error)).await;
                    return Err(Ended);
                }
            }
        }
    }

    async fn send(&self, chunk: Bytes) -> Result<(), Ended> {
        self.chunks.send(Ok(chunk)).await.map_err(|_| Ended)
    }

    async fn pause(&self) -> Result<(), Ended> {
        tokio::select! {
            () = self.chunks.closed() => Err(Ended),
            () = tokio::time::sleep(Duration::from_millis(FOLLOW_INTERVAL_MS)) => Ok(()),
        }
    }
}
