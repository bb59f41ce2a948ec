//! Reads prediction records for one monitor and gathers them in windows.
//!
//! The place in the stream is committed with each window, and an open window is gathered again after a restart: the same rows
//! give the same window.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use async_nats::jetstream::message::Message;
use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt as _;
use slipway_api::predictions::{PREDICTIONS_STREAM, PredictionBatch};
use slipway_domain::drift::{Profile, Window};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::app::App;
use crate::baseline::{self, Refreshed};
use crate::rows::{self, Rows};
use crate::store::monitors::DRIFTED;
use crate::store::positions::{self, Position, Watched};
use crate::{close, store};

/// Messages that wait in memory for one monitor; each is at most 1 MiB.
const MAX_WAITING_MESSAGES: i64 = 32;
/// A failure after this long without one is told again.
const QUIET_S: u64 = 30;
/// Pause before a baseline that cannot be had is asked for again, and before a lost subscription is made again.
const RETRY_MS: u64 = 1_000;
/// How often the clock and the connection are looked at.
const TICK_MS: u64 = 200;
/// How often the monitor's row is looked at where nobody says that it changed.
const CHECK_TICKS: u32 = 10;
/// A window is closed by the clock only this long after its time is up, so that records on their way still reach it.
const LATE_RECORDS_MS: i64 = 500;

/// Why reading stopped.
enum Ended {
    /// The monitor's row is another, or the connection was lost: begin anew.
    Anew,
    /// The baseline is not known yet.
    Waiting,
    /// There is no such monitor any more.
    Gone,
}

/// Reads until the monitor is gone or `end` is set.
pub(crate) async fn run(app: App, monitor: Uuid, end: CancellationToken) {
    let mut complained = false;
    while !end.is_cancelled() {
        let began = Instant::now();
        let ended = tokio::select! {
            () = end.cancelled() => return,
            ended = Box::pin(once(&app, monitor)) => ended,
        };
        match ended {
            Ok(Ended::Gone) => return,
            Ok(Ended::Anew) => continue,
            Ok(Ended::Waiting) => {}
            Err(error) => {
                let news = !complained || began.elapsed() >= Duration::from_secs(QUIET_S);
                complained = true;
                if news {
                    tracing::warn!(%monitor, error = format!("{error:#}"), "reading begins again");
                }
            }
        }
        pause(&app, &end).await;
    }
}

async fn pause(app: &App, end: &CancellationToken) {
    let mut changes = app.changes.subscribe();
    tokio::select! {
        () = end.cancelled() => {}
        _ = changes.changed() => {}
        () = tokio::time::sleep(Duration::from_millis(RETRY_MS)) => {}
    }
}

async fn once(app: &App, monitor: Uuid) -> anyhow::Result<Ended> {
    let Some(watched) = positions::watched(&app.pool, monitor).await? else { return Ok(Ended::Gone) };
    if watched.profile.is_none() || watched.baseline_stale_since.is_some() {
        return match baseline::refresh(app, &watched).await? {
            Refreshed::Settled => Ok(Ended::Anew),
            Refreshed::Open => Ok(Ended::Waiting),
        };
    }
    let Some(profile) = watched.profile.as_ref().map(|profile| profile.0.clone()) else {
        return Ok(Ended::Anew);
    };
    app.metrics.stands(&watched.name, watched.status == DRIFTED);
    let reader = Reader {
        window: Window::new(&profile),
        opened_at: None,
        behind: false,
        skip: watched.position(),
        read: watched.position(),
        app: app.clone(),
        profile,
        watched,
    };
    reader.follow().await
}

/// A monitor's open window and its place in the stream.
struct Reader {
    app: App,
    watched: Watched,
    profile: Profile,
    window: Window,
    /// Time of the open window's first row.
    opened_at: Option<DateTime<Utc>>,
    /// Whether more messages are in the stream already.
    behind: bool,
    /// Rows up to here were counted before.
    skip: Option<Position>,
    /// Rows up to here were looked at.
    read: Option<Position>,
}

/// What became of a window.
enum Outcome {
    Committed,
    /// The monitor is not what we took it for; nothing was committed.
    Outdated,
}

impl Reader {
    async fn follow(mut self) -> anyhow::Result<Ended> {
        let bus = self.app.bus.clone();
        anyhow::ensure!(bus.is_connected(), "NATS is away");
        let connections = || bus.client().statistics().connects.load(Ordering::Relaxed);
        let connected = connections();
        let mut messages = self.subscribe().await?;
        let mut changes = self.app.changes.subscribe();
        let mut tick = tokio::time::interval(Duration::from_millis(TICK_MS));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ticks = 0u32;
        loop {
            let check = tokio::select! {
                message = messages.next() => {
                    let message = message.context("the subscription ended")??;
                    if matches!(self.take(&message).await?, Outcome::Outdated) {
                        return Ok(Ended::Anew);
                    }
                    false
                }
                _ = changes.changed() => true,
                _ = tick.tick() => {
                    // A subscription may outlive its server without saying so.
                    if connections() != connected {
                        return Ok(Ended::Anew);
                    }
                    if matches!(self.close_by_clock().await?, Outcome::Outdated) {
                        return Ok(Ended::Anew);
                    }
                    ticks += 1;
                    ticks.is_multiple_of(CHECK_TICKS)
                }
            };
            if check {
                match positions::is_current(&self.app.pool, self.watched.id, self.watched.epoch).await? {
                    None => return Ok(Ended::Gone),
                    Some(false) => return Ok(Ended::Anew),
                    Some(true) => self.save_place().await?,
                }
            }
        }
    }

    /// From the place that was committed last, or from the moment at which the monitor begins.
    async fn subscribe(&mut self) -> anyhow::Result<pull::Ordered> {
        let mut stream =
            self.app.bus.jetstream().get_stream(PREDICTIONS_STREAM).await.context("the stream")?;
        let last = stream.info().await.context("the stream")?.state.last_sequence;
        if self.skip.is_some_and(|position| position.sequence > last) {
            tracing::warn!(
                monitor = self.watched.name,
                "the stream of prediction records began anew; so does reading"
            );
            self.skip = None;
            self.read = None;
        }
        let deliver_policy = match self.skip {
            Some(position) => DeliverPolicy::ByStartSequence { start_sequence: position.sequence.max(1) },
            None => DeliverPolicy::ByStartTime {
                start_time: std::time::SystemTime::from(self.watched.read_from).into(),
            },
        };
        let config = pull::OrderedConfig {
            deliver_policy,
            max_batch: MAX_WAITING_MESSAGES,
            ..pull::OrderedConfig::default()
        };
        let consumer = stream.create_consumer(config).await.context("the subscription")?;
        consumer.messages().await.context("the subscription")
    }

    /// Counts one message's rows; closes windows as they fill up.
    async fn take(&mut self, message: &Message) -> anyhow::Result<Outcome> {
        let info = message.info().map_err(|error| anyhow::anyhow!("{error}"))?;
        let sequence = info.stream_sequence;
        self.behind = info.pending > 0;
        let batch: PredictionBatch = match serde_json::from_slice(&message.payload) {
            Ok(batch) => batch,
            Err(error) => {
                tracing::debug!(%error, sequence, "a message of prediction records does not parse and is skipped");
                self.app.metrics.unreadable.inc();
                return Ok(Outcome::Committed);
            }
        };
        let counted =
            self.skip.filter(|position| position.sequence == sequence).map_or(0, |position| position.rows);
        let deployment = self.watched.deployment.clone();
        let output = self.watched.prediction_output.clone();
        let read_from_ms = self.watched.read_from.timestamp_millis();
        let mut row_in_message = 0u64;
        for record in rows::eligible(&batch, &deployment) {
            let at_ms = record.at_unix_ms.cast_signed();
            let at = DateTime::from_timestamp_millis(at_ms).unwrap_or_default();
            let place = |rows| Position { sequence, rows };
            if let Some(deadline) = self.deadline().filter(|deadline| at >= *deadline)
                && row_in_message >= counted
            {
                let outcome = self.close(deadline, place(row_in_message)).await?;
                if matches!(outcome, Outcome::Outdated) {
                    return Ok(outcome);
                }
            }
            let columns = Rows::new(&self.profile, record, output.as_deref());
            for row in 0..record.rows {
                row_in_message += 1;
                if row_in_message <= counted || at_ms < read_from_ms {
                    continue;
                }
                self.opened_at.get_or_insert(at);
                columns.add_to(&mut self.window, &self.profile, row);
                if self.window.rows() >= self.watched.spec.window.rows {
                    let outcome = self.close(at, place(row_in_message)).await?;
                    if matches!(outcome, Outcome::Outdated) {
                        return Ok(outcome);
                    }
                }
            }
        }
        self.read = Some(Position { sequence, rows: row_in_message });
        Ok(Outcome::Committed)
    }

    /// When the open window closes at the latest.
    fn deadline(&self) -> Option<DateTime<Utc>> {
        let max_ms = (self.watched.spec.window.max_s * 1_000.0) as i64;
        self.opened_at.and_then(|opened| opened.checked_add_signed(TimeDelta::milliseconds(max_ms)))
    }

    /// A window closes in time also where no more records come. Not while records of that time may still be in the stream.
    async fn close_by_clock(&mut self) -> anyhow::Result<Outcome> {
        let settled = Utc::now() - TimeDelta::milliseconds(LATE_RECORDS_MS);
        let deadline = self.deadline().filter(|deadline| settled >= *deadline && !self.behind);
        match (self.read, deadline) {
            (Some(read), Some(deadline)) => self.close(deadline, read).await,
            _ => Ok(Outcome::Committed),
        }
    }

    async fn close(&mut self, closed_at: DateTime<Utc>, position: Position) -> anyhow::Result<Outcome> {
        let opened_at = self.opened_at.take().unwrap_or(closed_at);
        // Replicas of serving need not publish in the order of their answers.
        let closed_at = closed_at.max(opened_at);
        let window = std::mem::replace(&mut self.window, Window::new(&self.profile));
        let closed = close::Closed { window, opened_at, closed_at, position };
        let committed = close::commit(&self.app, &mut self.watched, &self.profile, &closed).await?;
        self.skip = Some(position);
        Ok(if committed { Outcome::Committed } else { Outcome::Outdated })
    }

    /// Without an open window everything that was read is settled.
    async fn save_place(&mut self) -> anyhow::Result<()> {
        if let Some(read) = self.read
            && self.opened_at.is_none()
            && self.skip != Some(read)
        {
            store::positions::save(&self.app.pool, self.watched.id, self.watched.epoch, read).await?;
            self.skip = Some(read);
        }
        Ok(())
    }
}
