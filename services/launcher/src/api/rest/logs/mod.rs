//! Logs of jobs: as text, or as server-sent events that a client can resume.

mod follow;
mod sse;

use axum::body::{Body, Bytes};
use axum::extract::State as Shared;
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use http::{HeaderMap, StatusCode, header};
use slipway_access::{Caller, NoPlace};
use slipway_api::rest::launcher::{LogChunk, LogsQuery};
use slipway_http_server::Problem;
use slipway_http_server::extract::{Path, Query};
use slipway_openapi::{DocumentedRouter, routes};

use self::follow::{Piece, Position, follow};
use crate::manage::{find, job_id};
use crate::state::State;
use crate::store::jobs::StoredJob;
use crate::store::processes;

const EVENT_STREAM: &str = "text/event-stream";
const LAST_EVENT_ID: &str = "last-event-id";

pub(super) fn router() -> DocumentedRouter<State> {
    DocumentedRouter::new().routes(routes!(read))
}

/// Returns the output of a job.
///
/// With `Accept: text/event-stream`, the response consists of server-sent events: `output` with a `LogChunk`,
/// and `end` as the last one; `error` instead says why the stream ends early, e.g. because the token was
/// revoked. The header `Last-Event-ID` continues after the event with that id. Otherwise
/// the response is the output itself; a line `==> attempt 2 <==` precedes the second and later attempts.
#[utoipa::path(get, path = "/api/v1/jobs/{id}/logs", tag = "jobs",
    params(("id" = String, Path, description = "Job ID"), LogsQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "`id` of the last event received")),
    responses(
        (status = 200, description = "The output", content((String = "text/plain"),
        (LogChunk = "text/event-stream"))),
        (status = 429, description = "Too many clients read logs at the same time")))]
async fn read(
    Shared(state): Shared<State>,
    Path(id): Path<String>,
    Query(query): Query<LogsQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let job = find(&state, job_id(&id)?).await?;
    let is_sse = accepts_events(&headers);
    let start = start(&query, &headers, &job, processes(&state, &job).await?, is_sse)?;
    let reader = Caller::current().filter(Caller::is_proven);
    let place = state.log_readers.take(reader.as_ref().map(|caller| &*caller.principal)).map_err(too_many)?;
    let pieces = follow(state, job.id, start, place);
    if is_sse {
        return Ok(sse::respond(pieces));
    }
    let with_banners = query.attempt.is_none();
    let chunks = pieces.filter_map(move |piece| async move { text(piece, with_banners) });
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        // The output of a job must not run as a page of this server.
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

fn accepts_events(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.split(',').any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == EVENT_STREAM))
}

/// Number of processes that have logs; `None` for a job with one process.
async fn processes(state: &State, job: &StoredJob) -> Result<Option<u32>, Problem> {
    let Some(group) = job.spec.group() else { return Ok(None) };
    // Earlier attempts may have had more.
    let most = processes::most(&mut *state.pool.acquire().await?, job.id).await?;
    Ok(Some(group.processes().max(most)))
}

/// Where to begin.
fn start(
    query: &LogsQuery,
    headers: &HeaderMap,
    job: &StoredJob,
    processes: Option<u32>,
    is_sse: bool,
) -> Result<Position, Problem> {
    let process = process(query, processes)?;
    let job = &job.state;
    if let Some(attempt) = query.attempt
        && (attempt == 0 || attempt > job.attempt())
    {
        return Err(Problem::not_found(format!("attempt {attempt}; the job has had {}", job.attempt())));
    }
    if query.offset.is_some() && query.attempt.is_none() {
        return Err(Problem::invalid("offset", "is an offset in the log of one attempt; set `attempt` too"));
    }
    let asked = Position {
        attempt: query.attempt.unwrap_or(1),
        offset: query.offset.unwrap_or(0),
        process,
        only: query.attempt.is_some(),
        follow: query.follow,
    };
    let Some(last) = headers.get(LAST_EVENT_ID).filter(|_| is_sse) else { return Ok(asked) };
    let id = last.to_str().unwrap_or_default();
    let (attempt, offset) = sse::parse_id(id).ok_or_else(|| {
        Problem::invalid("Last-Event-ID", format!("expected the id of an event of this stream, got `{id}`"))
    })?;
    if query.attempt.is_some_and(|only| only != attempt) {
        return Err(Problem::invalid("Last-Event-ID", "belongs to another attempt than `attempt`"));
    }
    Ok(Position { attempt, offset, ..asked })
}

/// Which process of a distributed job is asked for; `None` for a job with one process.
fn process(query: &LogsQuery, processes: Option<u32>) -> Result<Option<u32>, Problem> {
    let (asked, count) = (query.process.unwrap_or(0), processes.unwrap_or(1));
    if asked >= count {
        let last = count - 1;
        return Err(Problem::not_found(format!("process {asked}; the job has processes 0 to {last}")));
    }
    Ok(processes.map(|_| asked))
}

fn too_many(why: NoPlace) -> Problem {
    let detail = format!("readers of logs: {why}");
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Too many requests", detail)
}

/// A piece as it is in the text.
fn text(piece: std::io::Result<Piece>, with_banners: bool) -> Option<std::io::Result<Bytes>> {
    match piece {
        Ok(Piece::Begin { attempt }) if with_banners && attempt > 1 => {
            Some(Ok(Bytes::from(format!("==> attempt {attempt} <==\n"))))
        }
        Ok(Piece::Begin { .. } | Piece::End { .. }) => None,
        Ok(Piece::Output { bytes, .. }) => Some(Ok(bytes)),
        Err(error) => Some(Err(error)),
    }
}
