//! The log extension: what is logged is shown, and how much of it may change while the process runs.

use std::sync::{Mutex, MutexGuard, PoisonError};

use slipway_telemetry::TelemetryConfig;
use tracing::level_filters::LevelFilter;

use crate::api::changed_by::ChangedBy;
use crate::failure::{Failure, Kind};

/// The settings that decide how much is logged, the least first, and what each one lets through.
const LEVELS: [(&str, LevelFilter); 3] =
    [("log_error", LevelFilter::ERROR), ("log_warning", LevelFilter::WARN), ("log_info", LevelFilter::INFO)];
const VERBOSE: &str = "log_verbose_level";
/// The only log format of the extension that is supported.
pub(crate) const LOG_FORMAT: &str = "default";
/// Begins the names of all parts of Slipway in the log.
const OWN: &str = "slipway";

/// The least that is logged after a change by a client.
const FLOOR: LevelFilter = LevelFilter::WARN;

/// What this process logs.
#[derive(Debug)]
pub(crate) struct LogSettings {
    started_with: Filter,
    level: Mutex<LevelFilter>,
}

/// The filter that the process was started with.
#[derive(Debug)]
struct Filter {
    /// As it was configured.
    text: String,
    /// The most verbose level that it has for Slipway's own code.
    level: LevelFilter,
}

/// A log setting's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LogValue {
    Flag(bool),
    Number(u32),
    Text(String),
}

impl LogSettings {
    /// The settings of a process that was started with `telemetry`.
    pub(crate) fn new(telemetry: &TelemetryConfig) -> Self {
        let level = own_level(&telemetry.log);
        let started_with = Filter { text: telemetry.log.clone(), level };
        Self { started_with, level: Mutex::new(level) }
    }

    /// The log settings.
    pub(crate) fn shown(&self) -> [(&'static str, LogValue); 6] {
        let level = *self.lock();
        let shown = |shown: LevelFilter| LogValue::Flag(level >= shown);
        let verbose = verbosity(level);
        [
            // Standard error.
            ("log_file", LogValue::Text(String::new())),
            ("log_info", shown(LevelFilter::INFO)),
            ("log_warning", shown(LevelFilter::WARN)),
            ("log_error", shown(LevelFilter::ERROR)),
            ("log_verbose_level", LogValue::Number(verbose)),
            ("log_format", LogValue::Text(LOG_FORMAT.to_owned())),
        ]
    }

    /// Takes an update: from now on it is logged like that.
    ///
    /// # Errors
    /// It names a setting that there is not, a value that it does not have, or a mix of levels that there is
    /// not; or it would turn warnings off.
    pub(crate) fn update(&self, wanted: &[(String, LogValue)], by: &ChangedBy) -> Result<(), Failure> {
        let mut level = self.lock();
        let next = level_of(wanted, *level)?;
        if next == *level {
            return Ok(());
        }
        if next < FLOOR && next < *level {
            tracing::warn!(%by, wanted = %next,
                "rejected: a client cannot turn off warnings and errors in the log");
            return Err(Failure::new(
                Kind::Refused,
                "'log_warning' and 'log_error' cannot be off: clients may not silence warnings and errors; \
                 start the server with another SLIPWAY_LOG for that",
            ));
        }
        let Filter { text, level: most } = &self.started_with;
        // What the process was started with may say more than a level.
        let filter = if next == *most { text.clone() } else { filter_of(next) };
        // Before the change, and at a level that no change hides.
        tracing::warn!(%by, filter, "client changed the log settings");
        slipway_telemetry::logs::set_filter(&filter).map_err(|error| {
            Failure::new(Kind::Refused, format!("what is logged cannot change: {error:#}"))
        })?;
        *level = next;
        Ok(())
    }

    /// The level that is logged now.
    pub(crate) fn level(&self) -> LevelFilter {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, LevelFilter> {
        // It is one value, whole after any panic.
        self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) const fn verbosity(level: LevelFilter) -> u32 {
    match level {
        LevelFilter::TRACE => 2,
        LevelFilter::DEBUG => 1,
        _ => 0,
    }
}

/// The level that an update asks for. Levels include each other, which the settings need not.
fn level_of(wanted: &[(String, LogValue)], now: LevelFilter) -> Result<LevelFilter, Failure> {
    let mut flags = LEVELS.map(|(_, level)| now >= level);
    let mut verbose = verbosity(now);
    for (name, value) in wanted {
        let place = LEVELS.iter().position(|(known, _)| known == name);
        match (name.as_str(), place, value) {
            (_, Some(place), LogValue::Flag(flag)) => flags[place] = *flag,
            (VERBOSE, _, LogValue::Number(number)) => verbose = *number,
            ("log_file", _, LogValue::Text(file)) if file.is_empty() => {}
            ("log_format", _, LogValue::Text(format)) if format == LOG_FORMAT => {}
            ("log_file" | "log_format", ..) => {
                return Err(Failure::new(
                    Kind::Refused,
                    format!(
                        "log setting '{name}' is fixed while the server runs; it logs to standard error, as \
                         SLIPWAY_LOG_FORMAT says"
                    ),
                ));
            }
            (VERBOSE, ..) => return Err(Failure::invalid(format!("log setting '{name}' expects a number"))),
            (_, Some(_), _) => {
                return Err(Failure::invalid(format!("log setting '{name}' expects true or false")));
            }
            _ => return Err(Failure::invalid(format!("there is no log setting '{name}'"))),
        }
    }
    let on = flags.iter().take_while(|flag| **flag).count();
    if let Some(more) = (on..LEVELS.len()).find(|place| flags[*place]) {
        return Err(Failure::new(
            Kind::Refused,
            format!("'{}' cannot be on while '{}' is off", LEVELS[more].0, LEVELS[on].0),
        ));
    }
    match verbose {
        0 => Ok(on.checked_sub(1).map_or(LevelFilter::OFF, |last| LEVELS[last].1)),
        _ if on < LEVELS.len() => Err(Failure::new(
            Kind::Refused,
            format!("'{VERBOSE}' cannot be {verbose} while '{}' is off", LEVELS[on].0),
        )),
        1 => Ok(LevelFilter::DEBUG),
        _ => Ok(LevelFilter::TRACE),
    }
}

/// The filter of a level. Libraries log at most at the level `info`.
fn filter_of(level: LevelFilter) -> String {
    if level > LevelFilter::INFO { format!("info,slipway={level}") } else { level.to_string() }
}

/// The most verbose level that a log filter lets through of Slipway's own code. What it says of a library is
/// no level of ours.
fn own_level(filter: &str) -> LevelFilter {
    let directives = filter.split(',').map(str::trim).filter(|directive| !directive.is_empty());
    let (mut rest, mut own, mut all_named) = (None, None, false);
    for directive in directives {
        let (target, level) = directive.rsplit_once('=').unwrap_or(("", directive));
        let level: LevelFilter = level.parse().unwrap_or(LevelFilter::TRACE);
        if target.is_empty() {
            rest = rest.max(Some(level));
        } else if target.starts_with(OWN) {
            own = own.max(Some(level));
            all_named |= target == OWN;
        }
    }
    if filter.trim().is_empty() {
        // As the filter takes it.
        return LevelFilter::ERROR;
    }
    own.max(rest.filter(|_| !all_named)).unwrap_or(LevelFilter::OFF)
}

#[cfg(test)]
mod tests {
    use slipway_telemetry::LogFormat;

    use super::*;

    fn settings(log: &str) -> LogSettings {
        LogSettings::new(&TelemetryConfig {
            log: log.to_owned(),
            log_format: LogFormat::Text,
            otlp_endpoint: None,
            trace_rate: 1,
        })
    }

    #[test]
    fn the_log_level_is_the_most_verbose_that_the_filter_has_for_our_own_code() {
        let level = |filter: &str| *settings(filter).lock();
        assert_eq!(level("info"), LevelFilter::INFO);
        assert_eq!(level("warn,slipway_serving=debug"), LevelFilter::DEBUG);
        assert_eq!(level("info,hyper=debug,async_nats=trace"), LevelFilter::INFO);
        assert_eq!(
            (level("debug,slipway=warn"), level("hyper=debug")),
            (LevelFilter::WARN, LevelFilter::OFF)
        );
        assert_eq!((level("off"), level("")), (LevelFilter::OFF, LevelFilter::ERROR));
    }

    #[test]
    fn no_client_turns_warnings_off() {
        let flag = |name: &str, flag| (name.to_owned(), LogValue::Flag(flag));
        let quiet = [
            vec![flag("log_info", false), flag("log_warning", false)],
            vec![flag("log_info", false), flag("log_warning", false), flag("log_error", false)],
        ];
        for started_with in ["info", "warn", "debug"] {
            let settings = settings(started_with);
            let before = settings.shown();
            for wanted in &quiet {
                let mut wanted = wanted.clone();
                wanted.push((VERBOSE.to_owned(), LogValue::Number(0)));
                let refused = settings.update(&wanted, &ChangedBy::default()).unwrap_err();
                assert!(refused.message.contains("cannot be off"), "{}", refused.message);
                assert_eq!(settings.shown(), before);
            }
        }
        // What the operator turned off stays off, and is turned no further down.
        let silent = settings("error");
        assert_eq!(silent.update(&[flag("log_error", true)], &ChangedBy::default()), Ok(()));
        assert!(silent.update(&[flag("log_error", false)], &ChangedBy::default()).is_err());
    }

    #[test]
    fn settings_become_the_level_that_they_mean() {
        let flag = |name: &str, flag| (name.to_owned(), LogValue::Flag(flag));
        let verbose = |number| (VERBOSE.to_owned(), LogValue::Number(number));
        let (info, debug) = (LevelFilter::INFO, LevelFilter::DEBUG);
        for (wanted, now, level) in [
            (vec![], info, info),
            (vec![verbose(1)], info, debug),
            (vec![verbose(7)], info, LevelFilter::TRACE),
            (vec![verbose(0)], debug, info),
            (vec![flag("log_info", false)], info, LevelFilter::WARN),
            (
                vec![verbose(0), flag("log_info", false), flag("log_warning", false)],
                debug,
                LevelFilter::ERROR,
            ),
            (vec![flag("log_info", true)], LevelFilter::WARN, info),
            (vec![flag("log_error", false)], LevelFilter::ERROR, LevelFilter::OFF),
        ] {
            assert_eq!(level_of(&wanted, now), Ok(level), "{wanted:?}");
        }
        let refused = |wanted: (String, LogValue), now| level_of(&[wanted], now).unwrap_err();
        assert_eq!(
            refused(flag("log_error", false), info).message,
            "'log_warning' cannot be on while 'log_error' is off"
        );
        assert_eq!(
            refused(verbose(1), LevelFilter::WARN).message,
            "'log_verbose_level' cannot be 1 while 'log_info' is off"
        );
        assert_eq!(refused(flag("log_nothing", true), info).kind, Kind::Invalid);
        assert_eq!(refused(flag(VERBOSE, true), info).kind, Kind::Invalid);
        let file = ("log_file".to_owned(), LogValue::Text("/tmp/log".to_owned()));
        assert_eq!(refused(file, info).kind, Kind::Refused);
        assert_eq!(
            (filter_of(debug), filter_of(LevelFilter::WARN)),
            ("info,slipway=debug".to_owned(), "warn".to_owned())
        );
    }
}
