//! `slipway events`.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use clap::Subcommand;
use slipway_api::rest::registry::{Event, EventStreamQuery};
use slipway_client::registry::EventStream;
use slipway_runtime::clock;

use crate::commands::context::Context;
use crate::output;

/// Pause before a lost connection is made again.
const RECONNECT_DELAY: Duration = Duration::from_millis(500);

/// See `slipway events --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Prints events as they occur; with --json, one JSON object per line.
    Tail {
        /// Starts with past events: those of the last SECONDS, or since a time such as 2026-01-31T12:00:00Z.
        /// Events are kept for 14 days.
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

pub(crate) async fn run(context: &Context, command: Command) -> anyhow::Result<()> {
    let Command::Tail { since, subject, count, duration_s } = command;
    output::end_with_reader();
    let since = DateTime::<Utc>::from(since).to_rfc3339_opts(SecondsFormat::Millis, true);
    let query = EventStreamQuery { event_type: Some(subject), since: Some(since) };
    let events = context.registry()?.follow_events(query);
    let printed = print_events(context.json, events, count);
    match duration_s {
        // The end of the time is no error.
        Some(seconds) => tokio::time::timeout(Duration::from_secs(seconds), printed).await.unwrap_or(Ok(())),
        None => printed.await,
    }
}

/// Prints events as they occur, through restarts of the registry, until `count` are printed.
async fn print_events(as_json: bool, mut events: EventStream, count: Option<usize>) -> anyhow::Result<()> {
    let mut left = count;
    while left != Some(0) {
        match events.next().await {
            Ok(event) => {
                print_event(as_json, &event);
                left = left.map(|events| events - 1);
            }
            // A registry that never answered is reported; one that restarts comes back.
            Err(error) if events.was_open() && error.is_transient() => {
                tokio::time::sleep(RECONNECT_DELAY).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A moment, from so many seconds ago or a time.
fn moment(text: &str) -> Result<SystemTime, String> {
    if let Ok(seconds) = text.parse() {
        let ago = clock::now().checked_sub(Duration::from_secs(seconds));
        return Ok(ago.unwrap_or(SystemTime::UNIX_EPOCH));
    }
    chrono::DateTime::parse_from_rfc3339(text)
        .map(SystemTime::from)
        .map_err(|_| "expected seconds, or a time as in 2026-01-31T12:00:00Z".to_owned())
}

fn print_event(as_json: bool, event: &Event) {
    if as_json {
        return output::json_line(event);
    }
    let reason = output::cell(&output::value_of(&event.data), "reason");
    let time = output::local(&event.time);
    let line = format!("{time}  {:<48}  {}  {reason}", event.event_type, event.subject);
    output::line(line.trim_end());
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
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
