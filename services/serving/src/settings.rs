//! The trace and log extensions: what is traced and logged is shown; it changes with the process's configuration only.

use slipway_telemetry::TelemetryConfig;
use tracing::level_filters::LevelFilter;

use crate::failure::{Failure, Kind};

/// Lists of the trace settings that clients know, in Triton's order.
const TRACE_NAMES: [&str; 6] =
    ["trace_level", "trace_rate", "trace_count", "log_frequency", "trace_file", "trace_mode"];

/// What this process logs and traces.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    log_filter: String,
    level: LevelFilter,
    traced: bool,
}

/// A log setting's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LogValue {
    Flag(bool),
    Number(u32),
    Text(String),
}

impl Settings {
    /// The settings of a process that was started with `telemetry`.
    pub(crate) fn new(telemetry: &TelemetryConfig) -> Self {
        Self {
            log_filter: telemetry.log.clone(),
            level: most_verbose(&telemetry.log),
            traced: telemetry.otlp_endpoint.is_some(),
        }
    }

    /// The log settings.
    pub(crate) fn log(&self) -> [(&'static str, LogValue); 6] {
        let shown = |level: LevelFilter| LogValue::Flag(self.level >= level);
        let verbose = match self.level {
            LevelFilter::TRACE => 2,
            LevelFilter::DEBUG => 1,
            _ => 0,
        };
        [
            // Standard error.
            ("log_file", LogValue::Text(String::new())),
            ("log_info", shown(LevelFilter::INFO)),
            ("log_warning", shown(LevelFilter::WARN)),
            ("log_error", shown(LevelFilter::ERROR)),
            ("log_verbose_level", LogValue::Number(verbose)),
            ("log_format", LogValue::Text("default".to_owned())),
        ]
    }

    /// Takes an update that changes nothing.
    ///
    /// # Errors
    /// It would change something, or names a setting that there is not.
    pub(crate) fn update_log(&self, wanted: &[(String, LogValue)]) -> Result<(), Failure> {
        let known = self.log();
        for (name, value) in wanted {
            match known.iter().find(|(known, _)| known == name) {
                None => return Err(Failure::invalid(format!("there is no log setting '{name}'"))),
                Some((_, now)) if now == value => {}
                Some(_) => {
                    return Err(Failure::new(
                        Kind::Refused,
                        format!(
                            "log setting '{name}' is fixed while the server runs; start it with another SLIPWAY_LOG (now '{}')",
                            self.log_filter
                        ),
                    ));
                }
            }
        }
        Ok(())
    }

    /// The trace settings; each a list, as the gRPC protocol has them.
    pub(crate) fn trace(&self) -> [(&'static str, String); 6] {
        let level = if self.traced { "TIMESTAMPS" } else { "OFF" };
        let values = [level, "1", "-1", "0", "", "opentelemetry"];
        std::array::from_fn(|at| (TRACE_NAMES[at], values[at].to_owned()))
    }

    /// Takes an update that changes nothing. No values: the default, which is what there is.
    ///
    /// # Errors
    /// It would change something, or names a setting that there is not.
    pub(crate) fn update_trace(&self, wanted: &[(String, Vec<String>)]) -> Result<(), Failure> {
        let known = self.trace();
        for (name, values) in wanted {
            match known.iter().find(|(known, _)| known == name) {
                None => return Err(Failure::invalid(format!("there is no trace setting '{name}'"))),
                Some((_, now)) if values.is_empty() || std::slice::from_ref(now) == values => {}
                Some(_) => {
                    return Err(Failure::new(
                        Kind::Refused,
                        format!(
                            "trace setting '{name}' is fixed while the server runs; every request is traced where the \
                             server is started with SLIPWAY_OTLP_ENDPOINT"
                        ),
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The most verbose level that any directive of a log filter lets through.
fn most_verbose(filter: &str) -> LevelFilter {
    let level = |directive: &str| {
        let directive = directive.trim();
        // A directive without a level, such as a module's name, lets everything through.
        directive.rsplit('=').next().and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::TRACE)
    };
    filter
        .split(',')
        .filter(|directive| !directive.trim().is_empty())
        .map(level)
        .max()
        .unwrap_or(LevelFilter::OFF)
}

#[cfg(test)]
mod tests {
    use slipway_telemetry::LogFormat;

    use super::*;

    fn settings(log: &str, otlp_endpoint: Option<&str>) -> Settings {
        Settings::new(&TelemetryConfig {
            log: log.to_owned(),
            log_format: LogFormat::Text,
            otlp_endpoint: otlp_endpoint.map(str::to_owned),
        })
    }

    #[test]
    fn the_log_level_is_the_most_verbose_of_the_filter() {
        let level = |filter: &str| settings(filter, None).level;
        assert_eq!(level("info"), LevelFilter::INFO);
        assert_eq!(level("warn,slipway_serving=debug"), LevelFilter::DEBUG);
        assert_eq!(level("error,hyper"), LevelFilter::TRACE);
        assert_eq!((level("off"), level("")), (LevelFilter::OFF, LevelFilter::OFF));
    }

    #[test]
    fn an_update_that_changes_nothing_is_taken_and_any_other_refused() {
        let settings = settings("warn", Some("http://localhost:4317"));
        let log = |name: &str, value| settings.update_log(&[(name.to_owned(), value)]);
        assert_eq!(log("log_info", LogValue::Flag(false)), Ok(()));
        assert_eq!(log("log_info", LogValue::Flag(true)).unwrap_err().kind, Kind::Refused);
        assert_eq!(log("log_nothing", LogValue::Flag(true)).unwrap_err().kind, Kind::Invalid);
        let trace = |name: &str, values: &[&str]| {
            settings
                .update_trace(&[(name.to_owned(), values.iter().map(|value| (*value).to_owned()).collect())])
        };
        assert_eq!((trace("trace_level", &["TIMESTAMPS"]), trace("trace_rate", &[])), (Ok(()), Ok(())));
        assert_eq!(trace("trace_level", &["OFF"]).unwrap_err().kind, Kind::Refused);
        assert_eq!(trace("nothing", &[]).unwrap_err().kind, Kind::Invalid);
    }
}
