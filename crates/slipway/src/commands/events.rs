//! `slipway events`.

use std::path::Path;
use std::time::{Duration, SystemTime};

use clap::Subcommand;
use serde_json::{Value, json};
use slipway_event_bus::{EventBus, NatsConfig, Received, records};
use tokio_util::sync::CancellationToken;

use super::Context;
use crate::output;
use crate::up::credentials::Credentials;

/// See `slipway events --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Prints events as they happen.
    Tail {
        /// Begins with the events of the last so many seconds.
        #[arg(long, default_value_t = 0, value_name = "SECONDS")]
        since: u64,
        /// Only subjects that begin so, e.g. slipway.registry.alias.
        #[arg(long, default_value = "slipway.", value_name = "PREFIX")]
        subject: String,
        /// Ends after so many events.
        #[arg(long, value_name = "N")]
        count: Option<usize>,
        /// Ends after so many seconds.
        #[arg(long = "for", value_name = "SECONDS")]
        duration_s: Option<u64>,
    },
}

pub(crate) async fn run(data_dir: &Path, context: &Context, command: Command) -> anyhow::Result<()> {
    let Command::Tail { since, subject, count, duration_s } = command;
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
    let from = SystemTime::now().checked_sub(Duration::from_secs(since)).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut left = count;
    records::read_from(&bus, slipway_api::events::EVENTS_STREAM, from, &end, |message| {
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

fn print_event(as_json: bool, event: &Received) {
    let data: Value = serde_json::from_slice(&event.data).unwrap_or(Value::Null);
    if as_json {
        let line = json!({
            "id": event.id, "time": event.time, "type": event.subject, "subject": event.entity,
            "traceparent": event.traceparent, "data": data,
        });
        println!("{line}");
    } else {
        let reason = output::cell(&data, "reason");
        println!("{}  {:<48}  {}  {}", event.time, event.subject, event.entity, reason);
    }
}
