//! The log and trace extensions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::openapi::{ArrayBuilder, ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::infer::any_of;

/// Settings of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogSettings {
    /// Always empty: the server logs to standard error.
    pub log_file: String,
    /// Whether information is logged.
    pub log_info: bool,
    /// Whether warnings are logged.
    pub log_warning: bool,
    /// Whether errors are logged.
    pub log_error: bool,
    /// 0, 1 for debug messages, 2 for trace messages.
    pub log_verbose_level: u32,
    /// Always `default`.
    pub log_format: String,
}

/// Settings of tracing. Values are texts, as in Triton.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TraceSettings {
    /// `OFF` or `TIMESTAMPS`.
    pub trace_level: Vec<String>,
    /// One of this number of requests is traced.
    pub trace_rate: String,
    /// Number of traces that remain; -1 for no limit.
    pub trace_count: String,
    /// Traces for each file; 0 for one file.
    pub log_frequency: String,
    /// Where traces go.
    pub trace_file: String,
    /// `opentelemetry`.
    pub trace_mode: String,
}

/// A setting. `null` resets it to its default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SettingValue {
    /// A truth value.
    Flag(bool),
    /// A number.
    Number(serde_json::Number),
    /// A text.
    Text(String),
    /// Texts.
    Texts(Vec<String>),
    /// The default.
    Default,
}

impl PartialSchema for SettingValue {
    fn schema() -> RefOr<Schema> {
        let texts = ArrayBuilder::new().items(ObjectBuilder::new().schema_type(Type::String));
        let scalars = [Type::Boolean, Type::Number, Type::String, Type::Null];
        any_of("A setting; `null` resets it", &scalars).item(texts).into()
    }
}

impl ToSchema for SettingValue {}

/// Settings to change: name → value.
pub type SettingsUpdate = BTreeMap<String, SettingValue>;
