//! Leaves a server that takes connections and answers no requests to JetStream.
//!
//! A server that is cut off from its cluster, or whose disk is full, keeps its clients: their connections
//! stand, and every request of theirs fails. The other servers go on. Each connection over which nothing is
//! acknowledged ([`crate::EventBus::acknowledged`]) therefore asks every few seconds for the stream of
//! events, and changes to another server of the cluster if that is not answered.

use std::sync::{Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_nats::jetstream;
use async_nats::jetstream::context::GetStreamErrorKind;
use slipway_api::events::EVENTS_STREAM;
use slipway_runtime::id;

/// How often is asked while the answers come.
const INTERVAL_MS: u64 = 5_000;
/// How often is asked after a question without an answer.
const SUSPICION_INTERVAL_MS: u64 = 1_000;
/// An acknowledgement of this age is as good as an answer.
const RECENT_MS: u64 = 2_000;
/// Longest wait for an answer.
const ANSWER_LIMIT_MS: u64 = 2_000;
/// The server is left after this number of questions without an answer.
const UNANSWERED: u32 = 3;
/// Longest pause between two changes of the server, where no server answers.
const CHANGE_PAUSE_MAX_MS: u64 = 30_000;
/// What HTTP calls Service Unavailable, and JetStream as well.
const UNAVAILABLE: usize = 503;

/// What the connection's task knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct State {
    unanswered: u32,
    /// Changes of the server since the last answer.
    changes: u32,
}

/// What it does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Ask { after_ms: u64 },
    ChangeServer { then_ask_after_ms: u64 },
}

const fn step(state: State, answered: bool) -> (State, Next) {
    if answered {
        return (State { unanswered: 0, changes: 0 }, Next::Ask { after_ms: INTERVAL_MS });
    }
    let unanswered = state.unanswered + 1;
    if unanswered < UNANSWERED {
        return (State { unanswered, ..state }, Next::Ask { after_ms: SUSPICION_INTERVAL_MS });
    }
    let doubled = SUSPICION_INTERVAL_MS << if state.changes < 5 { state.changes } else { 5 };
    let then_ask_after_ms = if doubled < CHANGE_PAUSE_MAX_MS { doubled } else { CHANGE_PAUSE_MAX_MS };
    (State { unanswered: 0, changes: state.changes + 1 }, Next::ChangeServer { then_ask_after_ms })
}

/// A pause of half to one and a half of `ms`: clients that lost the same server do not return as one.
pub(crate) fn jittered(ms: u64) -> Duration {
    // 1024 steps are enough, and no bias matters here.
    let share = (id::random().as_u128() % 1024) as u64;
    Duration::from_millis(ms / 2 + ms * share / 1024)
}

/// Whether JetStream answers, shared by all clones of a connection.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// Why it does not.
    trouble: Mutex<Option<String>>,
    /// When a message was acknowledged last.
    acknowledged: Mutex<Option<Instant>>,
}

impl Answers {
    pub(crate) fn trouble(&self) -> Option<String> {
        self.lock().clone()
    }

    pub(crate) fn acknowledged(&self) {
        *self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether it just has, so that no question is needed.
    fn acknowledged_recently(&self) -> bool {
        let last = *self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|at| at.elapsed() < Duration::from_millis(RECENT_MS))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches a connection until its last owner has dropped `answers`.
pub(crate) async fn watch(client: async_nats::Client, jetstream: jetstream::Context, answers: Weak<Answers>) {
    let (mut state, mut pause_ms) = (State::default(), INTERVAL_MS);
    loop {
        tokio::time::sleep(jittered(pause_ms)).await;
        let Some(acknowledged) = answers.upgrade().map(|answers| answers.acknowledged_recently()) else {
            return;
        };
        if client.connection_state() != async_nats::connection::State::Connected {
            // The client changes the server itself.
            (state, pause_ms) = (State::default(), SUSPICION_INTERVAL_MS);
            continue;
        }
        let failure = if acknowledged { None } else { ask(&jetstream).await.err() };
        let Some(owned) = answers.upgrade() else { return };
        let next;
        (state, next) = step(state, failure.is_none());
        tell(&owned, failure);
        pause_ms = match next {
            Next::Ask { after_ms } => after_ms,
            Next::ChangeServer { then_ask_after_ms } => {
                change_server(&client).await;
                then_ask_after_ms
            }
        };
    }
}

/// Logs the first failure and the first answer after it.
fn tell(answers: &Answers, failure: Option<String>) {
    let before = std::mem::replace(&mut *answers.lock(), failure.clone());
    match (before, failure) {
        (None, Some(reason)) => {
            tracing::warn!(reason, "JetStream does not answer; the connection to NATS stands");
        }
        (Some(_), None) => tracing::info!("JetStream answers again"),
        _ => {}
    }
}

/// A server without a cluster is not left: there is no other one.
async fn change_server(client: &async_nats::Client) {
    let others = client.server_pool().await.map_or(0, |pool| pool.len()) > 1;
    if others {
        tracing::info!("changing to another server of the NATS cluster");
        let _ = client.force_reconnect().await;
    }
}

/// Any answer will do that is not about the server's own state: a stream that does not exist yet is no
/// trouble. A server that is cut off answers, and knows no leader of the stream.
async fn ask(jetstream: &jetstream::Context) -> Result<(), String> {
    let limit = Duration::from_millis(ANSWER_LIMIT_MS);
    match tokio::time::timeout(limit, jetstream.get_stream(EVENTS_STREAM)).await {
        Err(_) => Err(format!("no answer within {ANSWER_LIMIT_MS} ms")),
        Ok(Ok(stream)) => match &stream.cached_info().cluster {
            Some(cluster) if cluster.leader.as_ref().is_none_or(String::is_empty) => {
                Err(format!("the stream {EVENTS_STREAM} has no leader"))
            }
            _ => Ok(()),
        },
        Ok(Err(error)) => match error.kind() {
            GetStreamErrorKind::JetStream(answer) if answer.code() != UNAVAILABLE => Ok(()),
            _ => Err(error.to_string()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is done about questions of which none is answered.
    fn unanswered(count: usize) -> Vec<Next> {
        let mut state = State::default();
        let one = |_| {
            let next;
            (state, next) = step(state, false);
            next
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn a_server_is_left_after_several_questions_without_an_answer() {
        let ask = Next::Ask { after_ms: 1_000 };
        let change = |ms| Next::ChangeServer { then_ask_after_ms: ms };
        assert_eq!(unanswered(6), [ask, ask, change(1_000), ask, ask, change(2_000)]);
        let last = *unanswered(60).last().unwrap();
        assert_eq!(last, change(CHANGE_PAUSE_MAX_MS), "the pause grows, and has a limit");
    }

    #[test]
    fn an_answer_ends_the_suspicion() {
        let suspicious = State { unanswered: 2, changes: 4 };
        assert_eq!(step(suspicious, true), (State::default(), Next::Ask { after_ms: INTERVAL_MS }));
    }

    #[test]
    fn pauses_differ_within_their_bounds() {
        let pauses: Vec<Duration> = (0..100).map(|_| jittered(1_000)).collect();
        let bounds = Duration::from_millis(500)..Duration::from_millis(1_500);
        assert!(pauses.iter().all(|pause| bounds.contains(pause)));
        assert!(pauses.iter().any(|pause| *pause != pauses[0]));
    }
}
