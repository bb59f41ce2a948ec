//! Events of all services, past and live.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

/// A JSON object whose fields depend on the kind of thing that it describes; another document lists them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JsonObject(pub serde_json::Map<String, serde_json::Value>);

impl From<serde_json::Value> for JsonObject {
    /// Anything but an object becomes an empty one.
    fn from(value: serde_json::Value) -> Self {
        match value {
            serde_json::Value::Object(fields) => Self(fields),
            _ => Self::default(),
        }
    }
}

impl PartialSchema for JsonObject {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .additional_properties(Some(AdditionalProperties::FreeForm(true)))
            .description(Some("An object whose fields depend on its kind."))
            .into()
    }
}

impl ToSchema for JsonObject {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("JsonObject")
    }
}

/// An event: a CloudEvent in JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// ID of the event; the same however often it is delivered.
    pub id: String,
    /// Time of the change, RFC 3339.
    #[schema(example = "2026-01-31T12:00:00Z")]
    pub time: String,
    /// Type of the event; docs/events.md lists them.
    #[serde(rename = "type")]
    #[schema(example = "slipway.registry.alias.set")]
    pub event_type: String,
    /// What the event is about, e.g. `churn@champion`.
    pub subject: String,
    /// Trace context of the change (W3C).
    pub traceparent: Option<String>,
    /// Facts about the change; docs/events.md describes them by `type`.
    pub data: JsonObject,
}

/// A page of events, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventPage {
    /// The events.
    pub events: Vec<Event>,
    /// Token of the next page; unset where there is no later event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// Which past events are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// Only events whose type begins with this text, e.g. `slipway.registry.alias.`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// Only events at or after this time, RFC 3339 [default: all that are kept]. Events are kept for 14 days.
    #[param(example = "2026-01-31T12:00:00Z")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    // No `flatten`: with it, numbers of a query string arrive as text.
    /// Maximum number of items, 1 to 1000 [default: 50].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// `next_page_token` of the previous page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_token: Option<String>,
}

/// Which live events are streamed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventStreamQuery {
    /// Only events whose type begins with this text, e.g. `slipway.registry.alias.`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// Starts with past events, from this time on, RFC 3339 [default: now]. The header `Last-Event-ID` takes
    /// precedence.
    #[param(example = "2026-01-31T12:00:00Z")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}
