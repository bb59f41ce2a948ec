//! Log and trace settings as protocol messages, and shared memory, of which there is none.

use std::collections::HashMap;

use slipway_api::inference as proto;
use slipway_api::inference::log_settings_request::setting_value::ParameterChoice as Wanted;
use slipway_api::inference::log_settings_response::setting_value::ParameterChoice as Shown;

use crate::api::changed_by::ChangedBy;
use crate::api::log_settings::LogValue;
use crate::api::settings::Settings;
use crate::failure::{Failure, Kind};

/// Takes an update and answers with the settings.
pub(super) fn log(
    settings: &Settings,
    wanted: HashMap<String, proto::log_settings_request::SettingValue>,
    by: &ChangedBy,
) -> Result<proto::LogSettingsResponse, Failure> {
    let mut values = Vec::with_capacity(wanted.len());
    for (name, value) in wanted {
        match value.parameter_choice {
            Some(Wanted::BoolParam(flag)) => values.push((name, LogValue::Flag(flag))),
            Some(Wanted::Uint32Param(number)) => values.push((name, LogValue::Number(number))),
            Some(Wanted::StringParam(text)) => values.push((name, LogValue::Text(text))),
            // No value asks for the default.
            None => {}
        }
    }
    settings.log.update(&values, by)?;
    let shown = |value| match value {
        LogValue::Flag(flag) => Shown::BoolParam(flag),
        LogValue::Number(number) => Shown::Uint32Param(number),
        LogValue::Text(text) => Shown::StringParam(text),
    };
    let settings = settings.log.shown().map(|(name, value)| {
        let value = proto::log_settings_response::SettingValue { parameter_choice: Some(shown(value)) };
        (name.to_owned(), value)
    });
    Ok(proto::LogSettingsResponse { settings: settings.into() })
}

/// Takes an update and answers with the settings: of a model, or of all.
pub(super) fn trace(
    settings: &Settings,
    model: Option<&str>,
    wanted: HashMap<String, proto::trace_setting_request::SettingValue>,
    by: &ChangedBy,
) -> Result<proto::TraceSettingResponse, Failure> {
    let values: Vec<_> = wanted.into_iter().map(|(name, value)| (name, value.value)).collect();
    settings.trace.update(model, &values, by)?;
    let settings = settings.trace.shown(model).map(|(name, value)| {
        (name.to_owned(), proto::trace_setting_response::SettingValue { value: vec![value] })
    });
    Ok(proto::TraceSettingResponse { settings: settings.into() })
}

/// Refuses a question about one region: there is none.
pub(super) fn no_region(name: &str) -> Result<(), Failure> {
    if name.is_empty() {
        return Ok(());
    }
    Err(Failure::not_found(format!("no shared memory is registered as '{name}'")))
}

/// Refuses a region.
pub(super) fn shared_memory_refused() -> Failure {
    Failure::new(Kind::Unsupported, "shared memory is not supported; send the data in the request")
}
