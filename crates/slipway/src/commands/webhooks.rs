//! `slipway webhooks`.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Context, Paging};
use crate::output;

/// See `slipway webhooks --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes a webhook; prints the secret that signs its calls, which is never shown again.
    Add {
        /// Name of the webhook.
        name: String,
        /// Who is called, http or https.
        url: String,
        /// Pattern of event types, e.g. `slipway.registry.alias.*`; may be given several times.
        #[arg(long = "event", required = true, value_name = "PATTERN")]
        events: Vec<String>,
        /// What it is for.
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Lists webhooks.
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Switches a webhook on again, from now on.
    Enable {
        /// Name of the webhook.
        name: String,
    },
    /// Switches a webhook off.
    Disable {
        /// Name of the webhook.
        name: String,
    },
    /// Signs with a new secret, and for a while with the one before, too; prints the new one.
    RotateSecret {
        /// Name of the webhook.
        name: String,
        /// The secret before signs too for so many seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
        overlap: u32,
    },
    /// Removes a webhook with its deliveries.
    Remove {
        /// Name of the webhook.
        name: String,
    },
    /// Lists deliveries, the newest first.
    Deliveries {
        /// Name of the webhook.
        name: String,
        /// Only deliveries in this state.
        #[arg(long, value_enum)]
        state: Option<State>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Delivers again: one delivery, or everything since a while ago.
    Replay {
        /// Name of the webhook.
        name: String,
        /// Id of one delivery.
        #[arg(required_unless_present = "since")]
        delivery: Option<String>,
        /// Everything of the last so many seconds; events are kept for 14 days.
        #[arg(long, value_name = "SECONDS", conflicts_with = "delivery")]
        since: Option<u64>,
    },
    /// Calls the receiver once, and says what it answered. Exit code 0: it took the call.
    Test {
        /// Name of the webhook.
        name: String,
    },
}

/// How far a delivery is.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum State {
    /// It waits for its first or next attempt.
    Pending,
    /// The receiver took it.
    Delivered,
    /// It was given up.
    Dead,
}

const ROOT: [&str; 3] = ["api", "v1", "webhooks"];

pub(crate) async fn run(context: &Context, command: Command) -> anyhow::Result<()> {
    let client = context.registry()?;
    match command {
        Command::Add { name, url, events, description } => {
            let body = json!({"name": name, "url": url, "events": events, "description": description});
            let made = client.send(Method::POST, &ROOT, Some(&body)).await?;
            output::object(context.json, &made);
        }
        Command::List { paging } => {
            let columns = [
                ("NAME", "name"),
                ("FORMAT", "format"),
                ("URL", "url"),
                ("EVENTS", "events"),
                ("ENABLED", "enabled"),
                ("REASON", "disabled_reason"),
            ];
            output::list(context.json, &client.get(&ROOT, &paging.query()).await?, "webhooks", &columns);
        }
        Command::Enable { name } => switch(context, &name, true).await?,
        Command::Disable { name } => switch(context, &name, false).await?,
        Command::RotateSecret { name, overlap } => {
            let path = [&ROOT[..], &[&name, "rotate-secret"]].concat();
            let rotated = client.send(Method::POST, &path, Some(&json!({ "overlap_s": overlap }))).await?;
            output::object(context.json, &rotated);
        }
        Command::Remove { name } => {
            client.send(Method::DELETE, &[&ROOT[..], &[&name]].concat(), None).await?;
            println!("webhook {name} is gone");
        }
        Command::Deliveries { name, state, paging } => {
            let mut query = paging.query();
            query.extend(state.map(|state| ("state", format!("{state:?}").to_lowercase())));
            let found = client.get(&[&ROOT[..], &[&name, "deliveries"]].concat(), &query).await?;
            let columns = [
                ("ID", "id"),
                ("EVENT", "event"),
                ("STATE", "state"),
                ("ATTEMPTS", "attempts"),
                ("STATUS", "last_status"),
                ("ERROR", "last_error"),
            ];
            output::list(context.json, &found, "deliveries", &columns);
        }
        Command::Replay { name, delivery: Some(id), .. } => {
            let path = [&ROOT[..], &[&name, "deliveries", &id, "replay"]].concat();
            client.send(Method::POST, &path, None).await?;
            println!("queued 1");
        }
        Command::Replay { name, since, .. } => replay(context, &name, since.unwrap_or_default()).await?,
        Command::Test { name } => {
            let tested = client.send(Method::POST, &[&ROOT[..], &[&name, "test"]].concat(), None).await?;
            output::object(context.json, &tested);
            anyhow::ensure!(tested["delivered"] == true, "the receiver did not take it");
        }
    }
    Ok(())
}

async fn switch(context: &Context, name: &str, enabled: bool) -> anyhow::Result<()> {
    let body = json!({ "enabled": enabled });
    let changed =
        context.registry()?.send(Method::PATCH, &[&ROOT[..], &[name]].concat(), Some(&body)).await?;
    output::object(context.json, &changed);
    Ok(())
}

async fn replay(context: &Context, name: &str, seconds: u64) -> anyhow::Result<()> {
    let client = context.registry()?;
    let path = [&ROOT[..], &[name, "replay"]].concat();
    let from = SystemTime::now().checked_sub(Duration::from_secs(seconds)).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut since = Value::from(DateTime::<Utc>::from(from).to_rfc3339_opts(SecondsFormat::Millis, true));
    let mut queued = 0;
    loop {
        let part = client.send(Method::POST, &path, Some(&json!({ "since": since }))).await?;
        queued += part["queued"].as_u64().unwrap_or_default();
        match part.get("next_since") {
            // A thousand events of one moment lead nowhere further.
            Some(next) if *next != since => since = next.clone(),
            _ => break,
        }
    }
    println!("queued {queued}");
    Ok(())
}
