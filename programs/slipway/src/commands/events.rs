//! `slipway events`.

use std::path::Path;
use std::time::{Duration, SystemTime};

use clap::Subcommand;
use serde_json::{Value, json};
use slipway_event_bus::{EventBus, NatsConfig, Received, records};
use tokio_util::sync::CancellationToken;

use crate::commands::context::Context;
use crate::output;
use crate::up::credentials::Credentials;

/// See `slipway events --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Prints events as they occur; with --json, one JSON object per line.
    Tail {
        /// Starts with past events: those of the last SECONDS, or since a time such as 2026-01-31T12:00:00Z. Events are kept for
        /// 14 days.
        #[arg(long, default_value = "0", value_name = "SECONDS|TIME", value_parser = moment)]
        since: SystemTime,
        /// Only events whose subject has this prefix, e.g. slipway.registry.alias.
        #[arg(long, default_value = "slipway.", value_name = "PREFIX")]
        subject: String,
        /// Exits after N events [default: unlimited].
        #[arg(long, value_name = "N")]
        count: Option<usize>,
        /// Exits after this many seconds [default: unlimited].
        #[arg(long = "for", value_name = "SECONDS")]
        duration_s: Option<u64>,
    },
}

pub(crate) async fn run(data_dir: &Path, context: &Context, command: Command) -> anyhow::Result<()> {
    let Command::Tail { since, subject, count, duration_s } = command;
    output::end_with_reader();
    let nats_url =
        Credentials::read(data_dir).map_or_else(|_| context.endpoints.nats.clone(), |known| known.nats_url);
    let bus = EventBus::connect(&NatsConfig { nats_url }, "slipway-events-tail").await?;
    let end = CancellationToken::new();
    if let Some(seconds) = duration_s {
        let end = end.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            end.cancel();
        });
    }
    let mut left = count;
    records::read_from(&bus, slipway_api::events::EVENTS_STREAM, since, &end, |message| {
        if left == Some(0) || !message.subject.starts_with(&subject) {
            return;
        }
        print_event(context.json, &Received::from_message(message));
        left = left.map(|events| events - 1);
        if left == Some(0) {
            end.cancel();
        }
    })
    .await;
    Ok(())
}

/// A moment, from so many seconds ago or a time.
fn moment(text: &str) -> Result<SystemTime, String> {
    if let Ok(seconds) = text.parse() {
        let ago = SystemTime::now().checked_sub(Duration::from_secs(seconds));
        return Ok(ago.unwrap_or(SystemTime::UNIX_EPOCH));
    }
    chrono::DateTime::parse_from_rfc3339(text)
        .map(SystemTime::from)
        .map_err(|_| "expected seconds, or a time as in 2026-01-31T12:00:00Z".to_owned())
}

fn print_event(as_json: bool, event: &Received) {
    let data: Value = serde_json::from_slice(&event.data).unwrap_or(Value::Null);
    if as_json {
        let line = json!({
            "id": event.id, "time": event.time, "type": event.subject, "subject": event.entity,
            "traceparent": event.traceparent, "data": data,
        });
        output::json_line(&line);
    } else {
        let reason = output::cell(&data, "reason");
        let time = output::local(&event.time);
        let line = format!("{time}  {:<48}  {}  {reason}", event.subject, event.entity);
        output::line(line.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_seconds_ago_or_a_time() {
        assert_eq!(moment("1970-01-01T00:01:00Z"), Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(60)));
        assert!(moment("60").unwrap() <= SystemTime::now() - Duration::from_secs(60));
        assert_eq!(moment(&u64::MAX.to_string()), Ok(SystemTime::UNIX_EPOCH));
        assert!(moment("yesterday").is_err());
    }
}
