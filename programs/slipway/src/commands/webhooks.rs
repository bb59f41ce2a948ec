//! `slipway webhooks`.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Subcommand, ValueEnum};
use slipway_api::rest::registry::{
    DeliveriesQuery, DeliveryState, NewWebhook, ReplayRequest, Rotation, WebhookUpdate,
};
use slipway_runtime::clock;

use crate::commands::context::{Context, Paging};
use crate::output::{self, outln};

/// See `slipway webhooks --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Creates a webhook and prints the secret that signs its calls. The secret is not shown again.
    Add {
        /// Name of the webhook.
        name: String,
        /// URL of the receiver, http or https.
        url: String,
        /// Pattern of event types, e.g. `slipway.registry.alias.*`. Can be repeated.
        #[arg(long = "event", required = true, value_name = "PATTERN")]
        events: Vec<String>,
        /// Description.
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        description: String,
    },
    /// Lists webhooks.
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Enables a webhook for events from now on.
    Enable {
        /// Name of the webhook.
        name: String,
    },
    /// Disables a webhook.
    Disable {
        /// Name of the webhook.
        name: String,
    },
    /// Replaces the secret and prints the new one. Calls carry both signatures during the overlap.
    RotateSecret {
        /// Name of the webhook.
        name: String,
        /// How long calls are also signed with the previous secret, in seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
        overlap: u32,
    },
    /// Deletes a webhook and its deliveries.
    Remove {
        /// Name of the webhook.
        name: String,
    },
    /// Lists deliveries, newest first.
    Deliveries {
        /// Name of the webhook.
        name: String,
        /// Only deliveries in this state.
        #[arg(long, value_enum)]
        state: Option<State>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Repeats one delivery, or delivers all events of the last SECONDS again.
    Replay {
        /// Name of the webhook.
        name: String,
        /// ID of one delivery.
        #[arg(required_unless_present = "since")]
        delivery: Option<String>,
        /// All events of the last SECONDS. Events are kept for 14 days.
        #[arg(long, value_name = "SECONDS", conflicts_with = "delivery")]
        since: Option<u64>,
    },
    /// Calls the receiver once and shows its answer. Exit code 0 if it accepted the call, 1 otherwise.
    Test {
        /// Name of the webhook.
        name: String,
    },
}

/// State of a delivery.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum State {
    /// Waiting for the first or next attempt.
    Pending,
    /// Accepted by the receiver.
    Delivered,
    /// Given up after all attempts.
    Dead,
}

impl State {
    const fn on_the_wire(self) -> DeliveryState {
        match self {
            Self::Pending => DeliveryState::Pending,
            Self::Delivered => DeliveryState::Delivered,
            Self::Dead => DeliveryState::Dead,
        }
    }
}

pub(crate) async fn run(context: &Context, command: Command) -> anyhow::Result<()> {
    let client = context.registry()?;
    match command {
        Command::Add { name, url, events, description } => {
            let new = NewWebhook { name, url, description, events, secret: None, enabled: None };
            output::object(context.json, &client.create_webhook(&new).await?);
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
            output::list(context.json, &client.webhooks(&paging.page()).await?, "webhooks", &columns);
        }
        Command::Enable { name } => switch(context, &name, true).await?,
        Command::Disable { name } => switch(context, &name, false).await?,
        Command::RotateSecret { name, overlap } => {
            let rotation = Rotation { secret: None, overlap_s: Some(overlap) };
            output::object(context.json, &client.rotate_webhook_secret(&name, &rotation).await?);
        }
        Command::Remove { name } => {
            client.delete_webhook(&name).await?;
            outln!("webhook {name} is deleted");
        }
        Command::Deliveries { name, state, paging } => {
            let page = paging.page();
            let state = state.map(State::on_the_wire);
            let query = DeliveriesQuery { state, limit: page.limit, page_token: page.page_token };
            let found = client.deliveries(&name, &query).await?;
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
            let replayed = client.replay_delivery(&name, &id).await?;
            outln!("queued {}", replayed.queued);
        }
        Command::Replay { name, since, .. } => replay(context, &name, since.unwrap_or_default()).await?,
        Command::Test { name } => {
            let tested = client.test_webhook(&name).await?;
            output::object(context.json, &tested);
            let status = tested.status.map(|status| status.to_string()).unwrap_or_default();
            let why = format!("{} {status}", tested.error.unwrap_or_default());
            anyhow::ensure!(tested.delivered, "the receiver did not accept the call: {}", why.trim());
        }
    }
    Ok(())
}

async fn switch(context: &Context, name: &str, enabled: bool) -> anyhow::Result<()> {
    let update = WebhookUpdate { enabled: Some(enabled), ..WebhookUpdate::default() };
    output::object(context.json, &context.registry()?.update_webhook(name, &update).await?);
    Ok(())
}

async fn replay(context: &Context, name: &str, seconds: u64) -> anyhow::Result<()> {
    let client = context.registry()?;
    let from = clock::now().checked_sub(Duration::from_secs(seconds)).unwrap_or(SystemTime::UNIX_EPOCH);
    let since = DateTime::<Utc>::from(from).to_rfc3339_opts(SecondsFormat::Millis, true);
    let mut request = ReplayRequest { since };
    let mut queued = 0;
    loop {
        let part = client.replay_events(name, &request).await?;
        queued += part.queued;
        match part.next_since {
            // A thousand events of one moment lead nowhere further.
            Some(next) if next != request.since => request.since = next,
            _ => break,
        }
    }
    outln!("queued {queued}");
    Ok(())
}
