//! Reads the prediction records of one deployment, once for all of its monitors, in the replica that has the
//! deployment's partition. Each write names the partition's term.
//!
//! NATS delivers the records of this deployment alone. A monitor's place in the stream is committed with each
//! of its windows, and an open window is gathered again after a restart: the same rows give the same window.
//! Where one monitor has to read again, the others skip what they have seen.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use async_nats::jetstream::message::Message;
use async_nats::jetstream::stream::Stream;
use futures::StreamExt as _;
use slipway_api::predictions::{
    Origin, PREDICTIONS_STREAM, PREDICTIONS_SUBJECT, PredictionBatch, Sender, records_filter, records_subject,
};
use slipway_event_bus::position::last_sequence;
use slipway_lease::Lost;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::metrics::DriftMetrics;
use crate::state::State;
use crate::store::monitors::DRIFTED;
use crate::store::positions::{self, Outline, Watched};
use crate::watcher::{Arrived, Outcome, Watcher};

/// Messages that wait in memory for one deployment; each is at most 1 MiB.
const MAX_WAITING_MESSAGES: i64 = 32;
/// A failure after this long without one is reported again.
const QUIET_S: u64 = 30;
/// Pause before a lost subscription is made again.
const RETRY_MS: u64 = 1_000;
/// How often the clock and the connection are looked at.
const TICK_MS: u64 = 200;
/// How often the monitors' rows are looked at where no change was announced.
const CHECK_TICKS: u32 = 10;

/// The deployment's monitors that can be fed.
type Watchers = HashMap<Uuid, Watcher>;

/// The monitors that may have time series here. Only this reader and its watchers write them, one after the
/// other, so that what is forgotten stays forgotten.
struct Series {
    metrics: DriftMetrics,
    monitors: HashSet<String>,
}

impl Series {
    /// Forgets the series of monitors that are not among these.
    fn keep(&mut self, monitors: HashSet<String>) {
        for gone in self.monitors.difference(&monitors) {
            self.metrics.forget(gone);
        }
        self.monitors = monitors;
    }
}

impl Drop for Series {
    fn drop(&mut self) {
        self.keep(HashSet::new());
    }
}

/// Reads until `end` is set.
pub(crate) async fn run(state: State, deployment: String, end: CancellationToken) {
    let mut complained = false;
    let mut watchers = Watchers::new();
    let mut series = Series { metrics: state.metrics.clone(), monitors: HashSet::new() };
    while !end.is_cancelled() {
        let began = Instant::now();
        let ended = tokio::select! {
            () = end.cancelled() => return,
            ended = Box::pin(once(&state, &deployment, &mut watchers, &mut series)) => ended,
        };
        let Err(error) = ended else { continue };
        // What was gathered is gathered again from what is committed.
        watchers.clear();
        if Lost::caused(error.as_ref()) {
            tracing::debug!(deployment, "another replica reads the prediction records");
            tokio::time::sleep(Duration::from_millis(RETRY_MS)).await;
            continue;
        }
        let news = !complained || began.elapsed() >= Duration::from_secs(QUIET_S);
        complained = true;
        if news {
            tracing::warn!(
                deployment,
                error = format!("{error:#}"),
                "restarting the reader of prediction records"
            );
        }
        tokio::select! {
            () = end.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(RETRY_MS)) => {}
        }
    }
}

/// Follows the stream for the monitors as they are now, until one of them changes.
async fn once(
    state: &State,
    deployment: &str,
    watchers: &mut Watchers,
    series: &mut Series,
) -> anyhow::Result<()> {
    let mut changes = state.changes.subscribe();
    let outlines = positions::outlines(&state.pool, deployment).await?;
    series.keep(outlines.into_iter().map(|monitor| monitor.name).collect());
    refresh(state, positions::of_deployment(&state.pool, deployment).await?, watchers);
    if watchers.is_empty() {
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep(Duration::from_millis(RETRY_MS)) => {}
        }
        return Ok(());
    }
    follow(state, deployment, watchers, series).await
}

/// Takes monitors in and out. One that is as it was keeps what it has gathered.
fn refresh(state: &State, monitors: Vec<Watched>, watchers: &mut Watchers) {
    watchers.retain(|id, watcher| {
        monitors.iter().any(|watched| watched.id == *id && watched.epoch == watcher.watched.epoch)
    });
    for watched in monitors.into_iter().filter(Watched::is_fed) {
        let (id, name, drifted) = (watched.id, watched.name.clone(), watched.status == DRIFTED);
        if !watchers.contains_key(&id)
            && let Some(watcher) = Watcher::new(state, watched)
        {
            state.metrics.stands(&name, drifted);
            watchers.insert(id, watcher);
        }
    }
}

async fn follow(
    state: &State,
    deployment: &str,
    watchers: &mut Watchers,
    series: &mut Series,
) -> anyhow::Result<()> {
    anyhow::ensure!(state.bus.is_connected(), "NATS is unreachable");
    let connections = || state.bus.client().statistics().connects.load(Ordering::Relaxed);
    let connected = connections();
    let mut messages = subscribe(state, deployment, watchers).await?;
    let mut changes = state.changes.subscribe();
    let mut tick = tokio::time::interval(Duration::from_millis(TICK_MS));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut ticks = 0u32;
    loop {
        let check = tokio::select! {
            message = messages.next() => {
                let message = message.context("the subscription ended")??;
                if take(state, &message, watchers).await? == Outcome::Outdated {
                    return Ok(());
                }
                false
            }
            _ = changes.changed() => true,
            _ = tick.tick() => {
                // A subscription may outlive its server without saying so.
                if connections() != connected || close_by_clock(watchers).await? == Outcome::Outdated {
                    return Ok(());
                }
                ticks += 1;
                ticks.is_multiple_of(CHECK_TICKS)
            }
        };
        if check {
            let outlines = positions::outlines(&state.pool, deployment).await?;
            if !are_current(&outlines, watchers) {
                return Ok(());
            }
            series.keep(outlines.into_iter().map(|monitor| monitor.name).collect());
            save_places(state, watchers).await?;
        }
    }
}

/// In one transaction for all monitors of the deployment.
async fn save_places(state: &State, watchers: &mut Watchers) -> anyhow::Result<()> {
    if !watchers.values().any(Watcher::is_unsaved) {
        return Ok(());
    }
    let mut transaction = slipway_lease::begin(&state.pool).await?;
    for watcher in watchers.values_mut() {
        watcher.save_place(&mut transaction).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// Whether the monitors are those that are fed, as they were read.
fn are_current(outlines: &[Outline], watchers: &Watchers) -> bool {
    let is_known = |monitor: &Outline| {
        watchers.get(&monitor.id).is_some_and(|watcher| watcher.watched.epoch == monitor.epoch)
    };
    let mut fed = outlines.iter().filter(|monitor| monitor.is_fed);
    fed.clone().count() == watchers.len() && fed.all(is_known)
}

/// From the place of the monitor that is furthest behind.
async fn subscribe(
    state: &State,
    deployment: &str,
    watchers: &mut Watchers,
) -> anyhow::Result<pull::Ordered> {
    let mut stream = state.bus.jetstream().get_stream(PREDICTIONS_STREAM).await.context("the stream")?;
    let read =
        watchers.values().filter_map(Watcher::place).map(|place| place.sequence.saturating_sub(1)).max();
    // A server that has just started may know of fewer messages than there are.
    let last = last_sequence(&mut stream, read.unwrap_or(0)).await.context("the stream")?;
    for watcher in watchers.values_mut() {
        if watcher.place().is_some_and(|place| place.sequence > last + 1) {
            watcher.begin_again();
        }
    }
    let config = pull::OrderedConfig {
        deliver_policy: start(&stream, watchers).await,
        filter_subjects: records_filter(deployment).to_vec(),
        max_batch: MAX_WAITING_MESSAGES,
        ..pull::OrderedConfig::default()
    };
    let consumer = stream.create_consumer(config).await.context("the subscription")?;
    consumer.messages().await.context("the subscription")
}

async fn start(stream: &Stream, watchers: &Watchers) -> DeliverPolicy {
    let earliest = watchers.values().filter_map(Watcher::place).map(|place| place.sequence.max(1)).min();
    let moments = watchers.values().filter(|watcher| watcher.place().is_none());
    let moment = moments.map(|watcher| SystemTime::from(watcher.watched.read_from)).min();
    match (earliest, moment) {
        (Some(start_sequence), None) => DeliverPolicy::ByStartSequence { start_sequence },
        (None, Some(moment)) => DeliverPolicy::ByStartTime { start_time: moment.into() },
        (None, None) => DeliverPolicy::New,
        (Some(start_sequence), Some(moment)) => {
            // A message that is gone has no time; all that is left is read then.
            let before = start_sequence.saturating_sub(1).max(1);
            let Ok(message) = stream.get_raw_message(before).await else { return DeliverPolicy::All };
            let stored = SystemTime::from(message.time);
            DeliverPolicy::ByStartTime { start_time: stored.min(moment).into() }
        }
    }
}

/// Hands one message to every monitor, parsed once.
async fn take(state: &State, message: &Message, watchers: &mut Watchers) -> anyhow::Result<Outcome> {
    let batch = is_wanted(&message.subject, watchers).then(|| parse(state, message)).flatten();
    let arrived = Arrived::new(message, batch)?;
    for watcher in watchers.values_mut() {
        if watcher.take(&arrived).await? == Outcome::Outdated {
            return Ok(Outcome::Outdated);
        }
    }
    Ok(Outcome::Committed)
}

/// Whether the subject is that of a monitor's deployment, or the old one of all deployments. Other senders'
/// messages are not parsed.
fn is_wanted(subject: &str, watchers: &Watchers) -> bool {
    subject == PREDICTIONS_SUBJECT
        || watchers.values().any(|watcher| {
            let Some(id) = watcher.watched.known_deployment_id() else { return true };
            let sender = Sender {
                origin: Origin::Controller,
                deployment_id: Some(id.to_owned()),
                ..Sender::default()
            };
            subject == records_subject(&watcher.watched.deployment, &sender)
        })
}

fn parse(state: &State, message: &Message) -> Option<PredictionBatch> {
    state.metrics.parsed.inc();
    match serde_json::from_slice(&message.payload) {
        Ok(batch) => Some(batch),
        Err(error) => {
            tracing::debug!(%error, "message of prediction records does not parse; skipped");
            state.metrics.unreadable.inc();
            None
        }
    }
}

async fn close_by_clock(watchers: &mut Watchers) -> anyhow::Result<Outcome> {
    for watcher in watchers.values_mut() {
        if watcher.close_by_clock().await? == Outcome::Outdated {
            return Ok(Outcome::Outdated);
        }
    }
    Ok(Outcome::Committed)
}
