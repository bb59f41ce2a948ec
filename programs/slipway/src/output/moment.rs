//! Moments for people: the local time zone (`TZ`), with its offset.

use chrono::{DateTime, Local, SecondsFormat, TimeZone};
use serde_json::Value;

/// Names of MLflow's fields with Unix milliseconds.
const MLFLOW: [&str; 3] = ["start_time", "end_time", "timestamp"];

/// A field that holds a moment, for people: the name without its unit, and the local time.
pub(super) fn of_field(name: &str, value: &Value) -> Option<String> {
    of_field_in(&Local, name, value)
}

fn of_field_in<Z: TimeZone>(zone: &Z, name: &str, value: &Value) -> Option<String>
where
    Z::Offset: std::fmt::Display,
{
    match value {
        Value::Number(number) if holds_milliseconds(name) => {
            // Zero stands for "never" in MLflow's answers.
            let milliseconds = number.as_i64().filter(|milliseconds| *milliseconds > 0)?;
            zone.timestamp_millis_opt(milliseconds).single().map(|moment| shown(&moment))
        }
        Value::String(text) if name.ends_with("_at") || name == "time" => {
            DateTime::parse_from_rfc3339(text).ok().map(|moment| shown(&moment.with_timezone(zone)))
        }
        _ => None,
    }
}

fn holds_milliseconds(name: &str) -> bool {
    name.ends_with("_unix_ms") || name.ends_with("_timestamp") || MLFLOW.contains(&name)
}

fn shown<Z: TimeZone>(moment: &DateTime<Z>) -> String
where
    Z::Offset: std::fmt::Display,
{
    moment.to_rfc3339_opts(SecondsFormat::Secs, false).replacen('T', " ", 1)
}

/// A moment as RFC 3339 text, in local time with milliseconds; other text stays as it is.
pub(crate) fn local(text: &str) -> String {
    DateTime::parse_from_rfc3339(text).map_or_else(
        |_| text.to_owned(),
        |moment| {
            let local = moment.with_timezone(&Local);
            local.to_rfc3339_opts(SecondsFormat::Millis, false).replacen('T', " ", 1)
        },
    )
}

/// The title of a field without the unit that its shown value no longer has.
pub(super) fn title(name: &str) -> &str {
    name.strip_suffix("_unix_ms").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use chrono::FixedOffset;
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_with_moments_are_shown_in_the_zone() {
        let zone = FixedOffset::east_opt(5 * 3_600 + 1_800).unwrap();
        let of = |name: &str, value: Value| of_field_in(&zone, name, &value);
        let expected = Some("2026-01-31 17:30:05+05:30".to_owned());
        assert_eq!(of("created_at_unix_ms", json!(1_769_860_805_000_u64)), expected);
        assert_eq!(of("start_time", json!(1_769_860_805_123_u64)), expected);
        assert_eq!(of("closed_at", json!("2026-01-31T12:00:05.5Z")), expected);
        assert_eq!(of("end_time", json!(0)), None);
        assert_eq!(of("end_time", Value::Null), None);
        assert_eq!(of("rows", json!(1_769_860_805_000_u64)), None);
        assert_eq!(of("name", json!("2026-01-31T12:00:05Z")), None);
        assert_eq!(of("created_at_unix_ms", json!(i64::MAX)), None);
    }
}
