//! Calls in the audit trail: those that the other services report, and those that this one refused.
//!
//! What changes something here is in the trail with its own event. Refused calls wait in a bounded queue, and
//! their number is limited ([`slipway_access::audit`]), so that callers without a token cannot fill the
//! trail.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use slipway_api::events::{CALLED_SERVICES, CallOutcome, EVENTS_STREAM, ServiceCall};
use slipway_audit::Actor;
use slipway_event_bus::permissions::durable;
use slipway_event_bus::{Consumer, EventBus, Received};
use slipway_outbox::inbox;
use slipway_runtime::clock::now_unix_ms;
use tokio_util::sync::CancellationToken;

use super::caller::acting;
use super::refusals::{Refused, RefusedCall};
use crate::error::Error;
use crate::state::Registry;

const CONSUMER: &str = durable::REGISTRY_CALLS;
const OWN_NAME: &str = "registry";

/// Numbers of refused calls that were not written are written this often.
const OMITTED_INTERVAL_S: u64 = 10;

/// Writes refused calls of this service until the shutdown.
pub(crate) async fn write_refused(registry: Registry, refused: Refused, shutdown: CancellationToken) {
    let Refused { mut queue, omitted } = refused;
    let mut due = tokio::time::interval(Duration::from_secs(OMITTED_INTERVAL_S));
    loop {
        let call = tokio::select! {
            () = shutdown.cancelled() => return,
            call = queue.recv() => match call {
                Some(call) => of_this_service(call),
                None => return shutdown.cancelled().await,
            },
            _ = due.tick() => match omitted.take() {
                Some(omitted) => ServiceCall::omitted(OWN_NAME, omitted, now_unix_ms()),
                None => continue,
            },
        };
        if let Err(error) = write(&registry, &call, None).await {
            tracing::warn!(%error, "a refused call is not in the audit trail");
            match call.omitted {
                Some(counted) => omitted.put_back(counted),
                None => omitted.count(call.outcome, call.at_unix_ms),
            }
        }
    }
}

fn of_this_service(refused: RefusedCall) -> ServiceCall {
    let RefusedCall { actor, method, path, status, reason } = refused;
    ServiceCall {
        service: OWN_NAME.to_owned(),
        outcome: CallOutcome::Refused,
        principal: actor.principal,
        credential: actor.credential,
        origin: actor.origin,
        method,
        path,
        status,
        reason,
        at_unix_ms: now_unix_ms(),
        omitted: None,
    }
}

/// Receives the calls of the other services until the shutdown.
pub(crate) async fn receive(registry: Registry, bus: EventBus, shutdown: CancellationToken) {
    let subjects = CALLED_SERVICES.iter().map(|service| format!("slipway.{service}.call.*")).collect();
    Consumer::new(bus, EVENTS_STREAM, CONSUMER, subjects)
        .run(shutdown, |received| {
            let registry = registry.clone();
            async move { hear(&registry, &received).await.map_err(|error| error.to_string()) }
        })
        .await;
}

async fn hear(registry: &Registry, received: &Received) -> Result<(), Error> {
    let Ok(mut call) = received.parse::<ServiceCall>() else {
        // It will not parse the next time either.
        tracing::warn!(event = %received.id, "call skipped");
        return Ok(());
    };
    // NATS lets each service publish under its own name only, which the body might not tell.
    let service = received.subject.split('.').nth(1).unwrap_or_default();
    service.clone_into(&mut call.service);
    write(registry, &call, Some(&received.id)).await
}

async fn write(registry: &Registry, call: &ServiceCall, event_id: Option<&str>) -> Result<(), Error> {
    let mut change = registry.change().await?;
    if let Some(id) = event_id
        && !inbox::first_time(change.db(), CONSUMER, id).await?
    {
        return Ok(());
    }
    let ServiceCall { service, outcome, principal, credential, origin, method, path, .. } = call;
    let actor =
        Actor { principal: principal.clone(), credential: credential.clone(), origin: origin.clone() };
    let mut details = json!({"service": service, "method": method, "path": path, "status": call.status,
        "reason": call.reason, "at_unix_ms": call.at_unix_ms});
    if let Some(omitted) = call.omitted {
        details["omitted"] = json!(omitted);
    }
    let id = call.name();
    acting(Arc::new(actor), change.tell("call", outcome.name(), id, details)).await?;
    change.commit().await
}
