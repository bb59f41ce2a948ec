//! Recorded requests that the rollout controller sends for a drill, to a copy of the stable version.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use serde_json::json;
use slipway_api::predictions::PredictionRecord;
use slipway_api::replay::ReplayMessage;
use slipway_api::traffic::{Drill, TrafficTable};
use slipway_domain::rollout::drill::Replayed;
use slipway_event_bus::EventBus;
use slipway_inference::{Signature, Tensor};
use slipway_runtime::clock::now_unix_ms;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::drills::{Answered, Copied};
use super::predictor::Predictor;
use crate::codec::InferRequest;
use crate::drills::Counters;
use crate::failure::Failure;

/// Looks at the traffic tables until the shutdown, and takes the replays that name this replica.
pub(crate) async fn follow(
    bus: EventBus,
    replica_id: String,
    predictor: Predictor,
    shutdown: CancellationToken,
) {
    let mut changes = predictor.routing.changes();
    let mut known = BTreeSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
        changes.borrow_and_update();
        let routes = predictor.routing.all();
        let meant =
            |drill: &&Drill| drill.replay.as_ref().is_some_and(|replay| replay.replica_id == replica_id);
        let named = routes.values().filter(|route| route.table.drill.as_ref().filter(meant).is_some());
        let mut here = BTreeSet::new();
        for route in named {
            let Some(counters) = predictor.routing.drills.running(&route.table, now_unix_ms()) else {
                continue;
            };
            let id = counters.drill.id.clone();
            here.insert(id.clone());
            if !known.contains(&id) {
                let (bus, this, table) = (bus.clone(), predictor.clone(), Arc::clone(&route.table));
                let ended = shutdown.clone();
                predictor.shadow_tasks.spawn(async move {
                    let replaying = this.replay(&bus, &counters, &table);
                    ended.run_until_cancelled(replaying).await.unwrap_or_default();
                });
            }
        }
        known = here;
    }
}

impl Predictor {
    /// Runs the recorded requests of one drill.
    async fn replay(&self, bus: &EventBus, counters: &Arc<Counters>, table: &TrafficTable) {
        let drill = &counters.drill;
        let mut messages = match bus.replays(&drill.id).await {
            Ok(messages) => messages,
            Err(error) => {
                let problem = Some(format!("the recorded requests cannot be received: {error}"));
                return counters.replayed(Replayed { problem, ..Replayed::default() });
            }
        };
        // From now on, the controller may send them.
        let mut replayed = Replayed::default();
        counters.replayed(replayed.clone());
        let copies = TaskTracker::new();
        let left = Duration::from_millis(drill.ends_at_unix_ms.saturating_sub(now_unix_ms()));
        let over = tokio::time::sleep(left);
        tokio::pin!(over);
        let mut unreadable = 0;
        loop {
            let message = tokio::select! {
                () = &mut over => break,
                message = messages.next() => message,
            };
            let Some(message) = message else { break };
            let Ok(ReplayMessage { found, incomplete, record, done }) =
                serde_json::from_slice(&message.payload)
            else {
                continue;
            };
            if let Some(record) = record
                && !self.replay_one(counters, table, record, &copies)
            {
                unreadable += 1;
            }
            let (found, incomplete) = (found.saturating_sub(unreadable), incomplete + unreadable);
            replayed = Replayed { found, incomplete, ..replayed };
            if done {
                copies.close();
                copies.wait().await;
                replayed.done = true;
            }
            counters.replayed(replayed.clone());
            if done {
                break;
            }
        }
    }

    /// Runs one recorded request; `false` where its inputs are none.
    fn replay_one(
        &self,
        counters: &Arc<Counters>,
        table: &TrafficTable,
        record: PredictionRecord,
        copies: &TaskTracker,
    ) -> bool {
        let route = self.routing.get(&table.deployment).ok();
        let names = |named: &Drill| named.id == counters.drill.id;
        let route = route.filter(|route| route.table.drill.as_ref().is_some_and(names));
        // Where the drill has just ended, the request is not needed.
        let Some(pick) = route.and_then(|route| route.stable("")) else { return true };
        let Ok(inputs) = inputs(&record, &pick.described.signature) else { return false };
        let (served, permit) = match self.place_for_copy(&pick) {
            Ok(place) => place,
            Err(why) => {
                counters.not_copied(why);
                return true;
            }
        };
        // What another version answered says nothing about this one.
        let is_same = record.version == pick.source.version && !record.outputs.is_empty();
        let answer = is_same.then_some(Answered::Recorded(record.outputs));
        let copy = Copied { request_id: record.request_id, pick, served, inputs: Arc::new(inputs), answer };
        let (this, counters) = (self.clone(), Arc::clone(counters));
        copies.spawn(async move {
            this.rehearse(&counters, &copy).await;
            drop(permit);
        });
        true
    }
}

/// The inputs of a recorded request, read as those of a client.
fn inputs(record: &PredictionRecord, signature: &Signature) -> Result<Vec<Tensor>, Failure> {
    let body = Bytes::from(json!({"inputs": record.inputs}).to_string());
    InferRequest::parse(&body, None)?.inputs.resolve(signature)
}
