//! Facts about NATS.

use std::time::{Duration, Instant};

use serde_json::Value;
use slipway_doctor::Finding;
use slipway_doctor::servers::{self, Nats};
use slipway_event_bus::{EventBus, NatsConfig};

use crate::installation::NATS_URL;

const LIMIT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(50);

pub(super) async fn check(config: &NatsConfig) -> Vec<Finding> {
    let unreachable = |why: &str| vec![servers::unreachable("nats", NATS_URL, why)];
    let bus = match EventBus::connect(config, "slipway-doctor").await {
        Ok(bus) => bus,
        Err(error) => return unreachable(&error.to_string()),
    };
    let started = Instant::now();
    while !bus.is_connected() {
        if started.elapsed() > LIMIT {
            return unreachable("no connection within 5 s, or the user or password is wrong");
        }
        tokio::time::sleep(POLL).await;
    }
    servers::nats(&facts(&bus).await)
}

async fn facts(bus: &EventBus) -> Nats {
    let server = bus.client().server_info();
    let mut facts = Nats {
        version: server.version,
        jetstream: server.jetstream,
        max_payload_bytes: server.max_payload as u64,
        ..Nats::default()
    };
    if !facts.jetstream {
        return facts;
    }
    match ask(bus, "$JS.API.STREAM.NAMES").await {
        Ok(answer) => {
            let names = answer["streams"].as_array().into_iter().flatten().filter_map(Value::as_str);
            facts.streams = names.map(str::to_owned).collect();
        }
        Err(why) => facts.refused = Some(why),
    }
    if let Ok(account) = ask(bus, "$JS.API.INFO").await {
        // -1 is no limit.
        facts.storage_limit_bytes = account["limits"]["max_storage"].as_u64();
        facts.reserved_bytes = account["reserved_storage"].as_u64().unwrap_or(0);
    }
    facts
}

async fn ask(bus: &EventBus, subject: &'static str) -> Result<Value, String> {
    let request = bus.client().request(subject, bytes::Bytes::new());
    let message = tokio::time::timeout(LIMIT, request).await;
    let message = message.map_err(|_| "no answer: the user may not ask".to_owned())?;
    let message = message.map_err(|error| error.to_string())?;
    let answer: Value = serde_json::from_slice(&message.payload).map_err(|error| error.to_string())?;
    match answer["error"]["description"].as_str() {
        Some(why) => Err(why.to_owned()),
        None => Ok(answer),
    }
}
