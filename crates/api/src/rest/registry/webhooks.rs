//! Webhooks and their deliveries.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// A webhook to be created. The secret is a plain text here: the service moves it into a type that is not
/// printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewWebhook {
    /// Name of the webhook.
    #[schema(example = "deploy-bot")]
    pub name: String,
    /// URL of the receiver, `http` or `https`, without credentials.
    #[schema(example = "https://example.org/hooks/slipway")]
    pub url: String,
    /// Description.
    #[serde(default)]
    pub description: String,
    /// Patterns of event types: words between dots, `*` for any one word, `>` at the end for the rest.
    #[schema(example = json!(["slipway.registry.alias.*"]))]
    pub events: Vec<String>,
    /// `whsec_` with 24 to 64 bytes as base64 [default: a generated one]. It is never shown again.
    #[schema(write_only)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Whether it is called [default: true].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

impl std::fmt::Debug for NewWebhook {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the secret.
        formatter.debug_struct("NewWebhook").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Changes of a webhook; unset fields stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookUpdate {
    /// The new URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The new description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The new patterns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<String>>,
    /// Whether it is called. An enabled webhook receives events from now on.
    #[schema(example = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// A webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Webhook {
    /// ID, by which the tracking API knows it.
    pub id: String,
    /// Name of the webhook.
    pub name: String,
    /// `cloudevents`, or `mlflow` if it was created by MLflow's API.
    pub format: String,
    /// URL of the receiver.
    pub url: String,
    /// Description.
    pub description: String,
    /// Patterns of event types.
    pub events: Vec<String>,
    /// In MLflow's format: MLflow's events, as `entity.action`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mlflow_events: Vec<String>,
    /// Whether it is called.
    pub enabled: bool,
    /// Why the registry disabled it.
    pub disabled_reason: Option<String>,
    /// Creation time.
    pub created_at_unix_ms: i64,
    /// Time of the last change.
    pub updated_at_unix_ms: i64,
    /// The generated secret; only in the response that creates the webhook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// A page of webhooks, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebhookPage {
    /// The webhooks.
    pub webhooks: Vec<Webhook>,
    /// Token of the next page; unset on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// A rotation of the secret.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// `whsec_` with 24 to 64 bytes as base64 [default: a generated one].
    #[schema(write_only)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// How long calls are also signed with the previous secret, in seconds [default: 86400].
    #[schema(example = 3600)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap_s: Option<u32>,
}

impl std::fmt::Debug for Rotation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the secret.
        formatter.debug_struct("Rotation").field("overlap_s", &self.overlap_s).finish_non_exhaustive()
    }
}

/// Result of a rotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rotated {
    /// The generated secret; it is not shown again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Time until which calls are also signed with the previous secret.
    pub old_secret_until_unix_ms: i64,
}

/// Result of a test call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tested {
    /// Whether the receiver accepted the call.
    pub delivered: bool,
    /// HTTP status of the receiver; unset where it did not answer.
    pub status: Option<i32>,
    /// Why the call failed.
    pub error: Option<String>,
}

/// State of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// Its first or next attempt is due later.
    Pending,
    /// The receiver accepted it.
    Delivered,
    /// It was given up after all attempts: a dead letter.
    Dead,
}

impl DeliveryState {
    /// Name on the wire and in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }
}

/// Which deliveries are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DeliveriesQuery {
    /// Only deliveries in this state.
    #[param(inline)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<DeliveryState>,
    /// Maximum number of items, 1 to 1000 [default: 50].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// `next_page_token` of the previous page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_token: Option<String>,
}

/// A delivery of one event to one webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Delivery {
    /// A number, as text.
    pub id: String,
    /// ID of the event, also the `webhook-id` of every attempt.
    pub event_id: String,
    /// Type of the event.
    pub event: String,
    /// `pending`, `delivered` or `dead`.
    pub state: String,
    /// Number of attempts.
    pub attempts: i32,
    /// Time of the next attempt; only while it is pending.
    pub next_attempt_at_unix_ms: Option<i64>,
    /// HTTP status of the last response; unset where there was none.
    pub last_status: Option<i32>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// Creation time.
    pub created_at_unix_ms: i64,
    /// Time when it was delivered or given up.
    pub finished_at_unix_ms: Option<i64>,
}

/// A page of deliveries, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeliveryPage {
    /// The deliveries.
    pub deliveries: Vec<Delivery>,
    /// Token of the next page; unset on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// Deliveries that were queued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Queued {
    /// Number of deliveries.
    pub queued: u64,
    /// Set where there are more events: repeat the request with this as `since`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_since: Option<String>,
}

/// A replay of past events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayRequest {
    /// First time that is included, RFC 3339. Events are kept for 14 days.
    #[schema(example = "2026-01-31T12:00:00Z")]
    pub since: String,
}
