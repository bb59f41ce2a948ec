//! The trace extension: what is traced of all requests, and of those for one model where it has settings of
//! its own.
//!
//! Without any of the latter a request costs one branch more than without this module.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use slipway_telemetry::TelemetryConfig;
use slipway_telemetry::spans::{self, ByPath};

use crate::api::changed_by::ChangedBy;
use crate::api::paths::{MODEL_INFER, model_of};
use crate::failure::{Failure, Kind};

/// Trace settings that clients know, in Triton's order.
const NAMES: [&str; 6] =
    ["trace_level", "trace_rate", "trace_count", "log_frequency", "trace_file", "trace_mode"];
const OFF: &str = "OFF";
const ON: &str = "TIMESTAMPS";
/// Models that may have settings of their own.
const MAX_MODELS: usize = 1_024;

/// What is traced.
#[derive(Debug)]
pub(crate) struct TraceSettings {
    /// Whether traces go anywhere.
    exported: bool,
    started_with: Chosen,
    state: Mutex<State>,
}

/// A level and a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Chosen {
    on: bool,
    /// 1 in N requests; at least 1.
    rate: u32,
}

/// What a model has of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Own {
    on: Option<bool>,
    rate: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    all: Chosen,
    models: BTreeMap<String, Own>,
}

/// A change of the level or the rate: to a value, or back to where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Level(Option<bool>),
    Rate(Option<u32>),
}

impl Chosen {
    /// Starts a trace for 1 in N requests; 0: none.
    const fn effective(self) -> u32 {
        if self.on { self.rate } else { 0 }
    }
}

impl State {
    fn of(&self, model: Option<&str>) -> Chosen {
        let own = model.and_then(|model| self.models.get(model)).copied().unwrap_or_default();
        Chosen { on: own.on.unwrap_or(self.all.on), rate: own.rate.unwrap_or(self.all.rate) }
    }

    fn take(&mut self, model: Option<&str>, change: Change, started_with: Chosen) {
        let Some(model) = model else {
            match change {
                Change::Level(on) => self.all.on = on.unwrap_or(started_with.on),
                Change::Rate(rate) => self.all.rate = rate.unwrap_or(started_with.rate),
            }
            return;
        };
        let mut own = self.models.remove(model).unwrap_or_default();
        match change {
            Change::Level(on) => own.on = on,
            Change::Rate(rate) => own.rate = rate,
        }
        if own != Own::default() {
            self.models.insert(model.to_owned(), own);
        }
    }

    /// Whether requests of a path begin traces, where their model has settings of its own.
    fn by_path(&self) -> Option<ByPath> {
        if self.models.is_empty() {
            return None;
        }
        let one = |name: &String| (name.clone(), (self.of(Some(name)).effective(), AtomicU32::new(0)));
        let models: BTreeMap<String, (u32, AtomicU32)> = self.models.keys().map(one).collect();
        Some(ByPath::new(move |path| {
            // The model of this call is in its message; whether it begins a trace is decided when that is
            // read.
            if path == MODEL_INFER {
                return Some(false);
            }
            let (rate, seen) = models.get(model_of(path)?)?;
            Some(*rate > 0 && seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(*rate))
        }))
    }
}

impl TraceSettings {
    /// The settings of a process that was started with `telemetry`.
    pub(crate) fn new(telemetry: &TelemetryConfig) -> Self {
        let exported = telemetry.otlp_endpoint.is_some();
        let all = Chosen { on: exported && telemetry.trace_rate > 0, rate: telemetry.trace_rate.max(1) };
        Self { exported, started_with: all, state: Mutex::new(State { all, models: BTreeMap::new() }) }
    }

    /// The settings of a model, or of all that have none of their own.
    pub(crate) fn shown(&self, model: Option<&str>) -> [(&'static str, String); 6] {
        shown(self.lock().of(model))
    }

    /// Takes an update of level and rate: from now on requests begin traces like that. No values: for a
    /// model, what holds for all; else what the process was started with.
    ///
    /// # Errors
    /// It names a setting that there is not, or one that is fixed; or traces go nowhere.
    pub(crate) fn update(
        &self,
        model: Option<&str>,
        wanted: &[(String, Vec<String>)],
        by: &ChangedBy,
    ) -> Result<(), Failure> {
        let mut state = self.lock();
        let mut next = state.clone();
        for (name, values) in wanted {
            if let Some(change) = self.change(next.of(model), name, values)? {
                next.take(model, change, self.started_with);
            }
        }
        if next.models.len() > MAX_MODELS {
            let message = format!("at most {MAX_MODELS} models have trace settings of their own");
            return Err(Failure::new(Kind::Refused, message));
        }
        if next != *state {
            tracing::warn!(%by, model, of_all = ?next.of(None), of_model = ?next.of(model),
                "client changed the trace settings");
        }
        spans::set_rate(next.all.effective());
        spans::choose_by_path(next.by_path());
        *state = next;
        Ok(())
    }

    /// What one setting changes; `None`: nothing.
    fn change(&self, now: Chosen, name: &str, values: &[String]) -> Result<Option<Change>, Failure> {
        let Some((_, now)) = shown(now).into_iter().find(|(known, _)| *known == name) else {
            return Err(Failure::invalid(format!("there is no trace setting '{name}'")));
        };
        let same = std::slice::from_ref(&now) == values;
        match (name, values) {
            ("trace_rate", []) => Ok(Some(Change::Rate(None))),
            ("trace_level", []) => Ok(Some(Change::Level(None))),
            (_, []) => Ok(None),
            _ if same && !(self.exported && matches!(name, "trace_rate" | "trace_level")) => Ok(None),
            _ if !self.exported => {
                Err(fixed(name, "traces are not exported; start the server with SLIPWAY_OTLP_ENDPOINT"))
            }
            ("trace_rate", [given]) => {
                let rate = given.parse().ok().filter(|rate| *rate > 0).ok_or_else(|| {
                    Failure::invalid(format!(
                        "trace setting 'trace_rate' is '{given}'; expected a whole number from 1"
                    ))
                })?;
                Ok(Some(Change::Rate(Some(rate))))
            }
            ("trace_level", [given]) if given == OFF => Ok(Some(Change::Level(Some(false)))),
            ("trace_level", [given]) if given == ON => Ok(Some(Change::Level(Some(true)))),
            ("trace_level", _) => {
                Err(fixed(name, "expected OFF or TIMESTAMPS; tensors are in prediction records"))
            }
            _ => Err(fixed(name, "traces go to SLIPWAY_OTLP_ENDPOINT, all that are begun")),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // It is replaced as a whole, so it is good after any panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shown(chosen: Chosen) -> [(&'static str, String); 6] {
    let values = [if chosen.on { ON } else { OFF }, &chosen.rate.to_string(), "-1", "0", "", "opentelemetry"];
    std::array::from_fn(|at| (NAMES[at], values[at].to_owned()))
}

fn fixed(name: &str, why: &str) -> Failure {
    Failure::new(Kind::Refused, format!("trace setting '{name}' is fixed while the server runs: {why}"))
}

#[cfg(test)]
mod tests {
    use slipway_telemetry::LogFormat;

    use super::*;

    const STARTED: Chosen = Chosen { on: true, rate: 5 };

    fn settings(otlp_endpoint: Option<&str>) -> TraceSettings {
        TraceSettings::new(&TelemetryConfig {
            log: "warn".to_owned(),
            log_format: LogFormat::Text,
            otlp_endpoint: otlp_endpoint.map(str::to_owned),
            trace_rate: 5,
        })
    }

    #[test]
    fn only_level_and_rate_of_traces_change_and_only_where_traces_go_somewhere() {
        let change = |settings: &TraceSettings, name: &str, values: &[&str]| {
            let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
            settings.change(settings.lock().all, name, &values).map_err(|failure| failure.kind)
        };
        let nowhere = settings(None);
        assert_eq!(change(&nowhere, "trace_rate", &["7"]), Err(Kind::Refused));
        assert_eq!(change(&nowhere, "trace_level", &["OFF"]), Ok(None));
        assert_eq!(change(&nowhere, "nothing", &[]), Err(Kind::Invalid));
        let somewhere = settings(Some("http://localhost:4317"));
        assert_eq!(change(&somewhere, "trace_rate", &["7"]), Ok(Some(Change::Rate(Some(7)))));
        assert_eq!(change(&somewhere, "trace_rate", &[]), Ok(Some(Change::Rate(None))));
        assert_eq!(change(&somewhere, "trace_level", &["OFF"]), Ok(Some(Change::Level(Some(false)))));
        assert_eq!(change(&somewhere, "trace_count", &[]), Ok(None));
        assert_eq!(change(&somewhere, "trace_mode", &["opentelemetry"]), Ok(None));
        assert_eq!(change(&somewhere, "trace_rate", &["0"]), Err(Kind::Invalid));
        assert_eq!(change(&somewhere, "trace_file", &["/tmp/x"]), Err(Kind::Refused));
        assert_eq!(change(&somewhere, "trace_level", &["TENSORS"]), Err(Kind::Refused));
    }

    #[test]
    fn a_model_overrides_what_holds_for_all_until_it_is_cleared() {
        let mut state = State { all: STARTED, models: BTreeMap::new() };
        let mut take = |model: Option<&str>, change| {
            state.take(model, change, STARTED);
            (state.of(None).effective(), state.of(Some("m")).effective(), state.models.len())
        };
        assert_eq!(take(Some("m"), Change::Rate(Some(2))), (5, 2, 1));
        assert_eq!(take(None, Change::Level(Some(false))), (0, 0, 1), "its level is still that of all");
        assert_eq!(take(Some("m"), Change::Level(Some(true))), (0, 2, 1));
        assert_eq!(take(Some("m"), Change::Rate(None)), (0, 5, 1));
        assert_eq!(take(Some("m"), Change::Level(None)), (0, 0, 0));
        assert_eq!(take(None, Change::Rate(Some(9))), (0, 0, 0));
        assert_eq!(take(None, Change::Level(None)), (9, 9, 0), "the rate is not forgotten while it is off");
        assert_eq!(take(None, Change::Rate(None)), (5, 5, 0));
    }
}
