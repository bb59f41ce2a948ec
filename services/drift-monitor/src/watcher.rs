//! One monitor's open window and its place in the stream of prediction records.

use std::sync::Arc;

use async_nats::jetstream::message::Message;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use slipway_api::predictions::{PredictionBatch, PredictionRecord};
use slipway_domain::drift::{Profile, Window};
use slipway_runtime::clock;
use sqlx::PgConnection;

use crate::received::{Missed, Received};
use crate::rows::{self, Rows, Schema};
use crate::state::State;
use crate::store::positions::{Position, Watched};
use crate::{close, store};

/// A window is closed by the clock only this long after its time is up, so that records on their way still
/// reach it.
const LATE_RECORDS_MS: i64 = 500;

/// A message as all monitors of its deployment read it.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) sequence: u64,
    /// Messages behind it.
    pub(crate) pending: u64,
    pub(crate) published_at: DateTime<Utc>,
    /// `None` where it is of other senders, or does not parse.
    pub(crate) batch: Option<PredictionBatch>,
}

/// What became of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Committed,
    /// The monitor is not what we took it for; nothing was committed.
    Outdated,
}

/// See the module.
pub(crate) struct Watcher {
    state: State,
    pub(crate) watched: Watched,
    profile: Arc<Profile>,
    window: Window,
    /// Time of the open window's first row.
    opened_at: Option<DateTime<Utc>>,
    received: Received,
    /// Whether more messages are in the stream already.
    behind: bool,
    /// Rows up to here are committed.
    committed: Option<Position>,
    /// Rows up to here were looked at.
    read: Option<Position>,
    /// The open window as users were last shown it.
    shown: serde_json::Value,
}

impl Arrived {
    pub(crate) fn new(message: &Message, batch: Option<PredictionBatch>) -> anyhow::Result<Self> {
        let info = message.info().map_err(|error| anyhow::anyhow!("{error}"))?;
        let published_at =
            DateTime::from_timestamp(info.published.unix_timestamp(), info.published.nanosecond());
        Ok(Self {
            sequence: info.stream_sequence,
            pending: info.pending,
            published_at: published_at.unwrap_or_default(),
            batch,
        })
    }
}

impl Watcher {
    /// `None` where there is nothing to compare with yet.
    pub(crate) fn new(state: &State, watched: Watched) -> Option<Self> {
        let profile = watched.profile.as_ref().map(|profile| Arc::new(profile.0.clone()))?;
        Some(Self {
            state: state.clone(),
            window: Window::new(&profile),
            opened_at: None,
            received: watched.received.0.clone(),
            behind: false,
            committed: watched.position(),
            read: watched.position(),
            shown: serde_json::Value::Null,
            profile,
            watched,
        })
    }

    /// Where reading goes on; `None`: at the moment from which the monitor counts.
    pub(crate) fn place(&self) -> Option<Position> {
        self.read
    }

    /// The stream numbers its messages from the beginning: no place in it means anything.
    pub(crate) fn begin_again(&mut self) {
        tracing::warn!(
            monitor = self.watched.name,
            "stream of prediction records was reset; restarting the reader"
        );
        self.committed = None;
        self.read = None;
        self.received = Received::default();
    }

    /// Counts one message's rows; closes windows as they fill up.
    pub(crate) async fn take(&mut self, arrived: &Arrived) -> anyhow::Result<Outcome> {
        self.behind = arrived.pending > 0;
        let sequence = arrived.sequence;
        if self.read.is_some_and(|read| sequence < read.sequence) {
            return Ok(Outcome::Committed);
        }
        self.show_lag(arrived);
        let counted = self.read.filter(|read| read.sequence == sequence).map_or(0, |read| read.rows);
        let of_us = arrived.batch.as_ref().filter(|batch| batch.is_of(self.watched.known_deployment_id()));
        let Some(batch) = of_us else {
            self.read = Some(Position::behind(sequence));
            return Ok(Outcome::Committed);
        };
        let mut row_in_message = 0;
        let deployment = self.watched.deployment.clone();
        self.take_head(batch, sequence, &deployment);
        for record in rows::eligible(batch, &deployment) {
            let outcome = self.take_record(batch, record, sequence, counted, &mut row_in_message).await?;
            if outcome == Outcome::Outdated {
                return Ok(outcome);
            }
        }
        self.read = Some(Position::behind(sequence));
        Ok(Outcome::Committed)
    }

    fn take_head(&mut self, batch: &PredictionBatch, sequence: u64, deployment: &str) {
        let rows = rows::eligible(batch, deployment).map(PredictionRecord::counted_rows).sum();
        let read_from_ms = u64::try_from(self.watched.read_from.timestamp_millis()).unwrap_or(0);
        self.received.take(&batch.sender, rows, sequence, read_from_ms);
    }

    async fn take_record(
        &mut self,
        batch: &PredictionBatch,
        record: &PredictionRecord,
        sequence: u64,
        counted: u64,
        row_in_message: &mut u64,
    ) -> anyhow::Result<Outcome> {
        let at_ms = record.at_unix_ms.cast_signed();
        let at = DateTime::from_timestamp_millis(at_ms).unwrap_or_default();
        let is_ours = at_ms >= self.watched.read_from.timestamp_millis();
        let place = |rows| Position { sequence, rows };
        if let Some(deadline) = self.deadline().filter(|deadline| at >= *deadline)
            && *row_in_message >= counted
        {
            let outcome = self.close(deadline, place(*row_in_message)).await?;
            if outcome == Outcome::Outdated {
                return Ok(outcome);
            }
        }
        let profile = Arc::clone(&self.profile);
        let schema = Schema {
            profile: &profile,
            inputs: self.watched.inputs.as_ref().map(|inputs| inputs.0.as_slice()),
            prediction_output: self.watched.prediction_output.as_deref(),
        };
        let columns = Rows::new(schema, record, &batch.redacted);
        if is_ours && *row_in_message >= counted {
            self.received.missed.not_recorded +=
                record.counted_rows() - columns.count.min(record.counted_rows());
        }
        for row in 0..columns.count {
            *row_in_message += 1;
            if *row_in_message <= counted || !is_ours {
                continue;
            }
            self.opened_at.get_or_insert(at);
            columns.add_to(&mut self.window, &profile, row);
            if self.window.rows() >= self.watched.spec.window.rows {
                let outcome = self.close(at, place(*row_in_message)).await?;
                if outcome == Outcome::Outdated {
                    return Ok(outcome);
                }
            }
        }
        Ok(Outcome::Committed)
    }
}

impl Watcher {
    /// When the open window closes at the latest.
    fn deadline(&self) -> Option<DateTime<Utc>> {
        let max_ms = (self.watched.spec.window.max_s * 1_000.0) as i64;
        self.opened_at.and_then(|opened| opened.checked_add_signed(TimeDelta::milliseconds(max_ms)))
    }

    /// A window closes in time also where no more records come. Not while records of that time may still be
    /// in the stream.
    pub(crate) async fn close_by_clock(&mut self) -> anyhow::Result<Outcome> {
        let settled = DateTime::<Utc>::from(clock::now()) - TimeDelta::milliseconds(LATE_RECORDS_MS);
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
        let missed = std::mem::take(&mut self.received.missed);
        let closed =
            close::Closed { window, opened_at, closed_at, position, missed, received: self.received.clone() };
        let committed = close::commit(&self.state, &mut self.watched, &self.profile, &closed).await?;
        self.committed = Some(position);
        Ok(if committed { Outcome::Committed } else { Outcome::Outdated })
    }

    /// Whether [`Self::save_place`] has something to write.
    pub(crate) fn is_unsaved(&self) -> bool {
        self.settled().is_some() || self.open_window() != self.shown
    }

    /// How far was read, where no window is open: everything before is settled.
    fn settled(&self) -> Option<Position> {
        self.read.filter(|read| self.opened_at.is_none() && self.committed != Some(*read))
    }

    /// Writes how far was read where that is settled, and shows users how far an open window is.
    pub(crate) async fn save_place(&mut self, connection: &mut PgConnection) -> anyhow::Result<()> {
        let watched = &self.watched;
        if let Some(read) = self.settled() {
            store::positions::save(connection, watched.id, watched.epoch, read, &self.received).await?;
            self.committed = Some(read);
        }
        let open = self.open_window();
        if open != self.shown {
            store::positions::show(connection, watched.id, watched.epoch, &open).await?;
            self.shown = open;
        }
        Ok(())
    }

    fn open_window(&self) -> serde_json::Value {
        let Missed { lost, dropped, not_recorded } = self.received.missed;
        json!({
            "rows": self.window.rows(),
            "opened_at": self.opened_at,
            "rows_lost": lost,
            "rows_dropped": dropped,
            "rows_not_recorded": not_recorded,
        })
    }

    fn show_lag(&self, arrived: &Arrived) {
        let age_ms = (DateTime::<Utc>::from(clock::now()) - arrived.published_at).num_milliseconds().max(0);
        let lag_s = if arrived.pending > 0 { age_ms as f64 / 1_000.0 } else { 0.0 };
        self.state.metrics.lag(&self.watched.name, arrived.pending, lag_s);
    }
}
