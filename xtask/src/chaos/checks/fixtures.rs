//! Events and answers for tests.

use serde_json::{Value, json};

use crate::chaos::facts::Event;
use crate::chaos::faults::{Replica, Service};
use crate::chaos::journal::Prediction;

const SERVING: Replica = Replica { service: Service::Serving, number: 0 };

pub(super) fn event(id: &str, kind: &str, time_ms: u64, data: Value) -> Event {
    Event { id: id.to_owned(), kind: kind.to_owned(), time_ms, data }
}

pub(super) fn rollout(what: &str, to: &str, weight: u8, time_ms: u64) -> Event {
    let data = json!({"rollout_id": "r", "what": what, "from_version": "1", "to_version": to,
        "weight_percent": weight});
    event(
        &format!("{what}-{to}-{weight}"),
        &format!("slipway.rollout-controller.rollout.{what}"),
        time_ms,
        data,
    )
}

pub(super) fn answer(version: u32, at_ms: u64) -> Prediction {
    Prediction {
        replica: SERVING,
        from_ms: at_ms,
        to_ms: at_ms,
        version,
        score: f64::from(version),
        shift: 0.0,
    }
}
