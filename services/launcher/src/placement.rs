//! Gives waiting jobs to nodes. Each launcher decides about all of them, and starts those that its own node
//! gets: what the jobs of all nodes take is read, and what a job takes is reserved by its attempt, in one
//! transaction at a time.

use slipway_domain::training::{JobEvent, Placement, Resources, place_on};
use slipway_http_server::Problem;
use slipway_runtime::clock::now_unix_ms;
use uuid::Uuid;

use crate::change::{self, Changed, Details};
use crate::state::State;
use crate::store::attempts::Assigned;
use crate::store::{jobs, launchers};

/// Waiting jobs that one pass decides about.
const MAX_STARTS: i64 = 256;

/// A job of which an attempt is to start on this node.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) id: Uuid,
    pub(crate) changed: Changed,
    pub(crate) assigned: Assigned,
}

/// Commits attempts for the jobs that start on this node now. Their agents are to be started.
pub(crate) async fn reserve(state: &State) -> Result<Vec<Started>, Problem> {
    let mut connection = state.pool.acquire().await?;
    let backend = state.backend.kind();
    if jobs::startable(&mut connection, backend, now_unix_ms(), 1).await?.is_empty() {
        return Ok(Vec::new());
    }
    drop(connection);
    let mut transaction = slipway_service_kit::db::begin(&state.pool).await?;
    launchers::lock_placement(&mut transaction).await?;
    let nodes = launchers::nodes(&mut transaction, backend).await?;
    let own = &state.own.node;
    let active = jobs::active(&mut transaction).await?;
    // Of two jobs of which each has found nodes for some of its processes, none could ever start.
    let mut gathers = active.iter().any(jobs::Active::gathers);
    let is_here = |job: &jobs::Active| job.owner.as_ref().is_none_or(|owner| owner.node == *own);
    let mut here: Vec<Assigned> = active.into_iter().filter(is_here).map(|job| job.assigned).collect();
    let waiting = jobs::startable(&mut transaction, backend, now_unix_ms(), MAX_STARTS).await?;
    let asked: Vec<Resources> = waiting.iter().map(|job| job.asked).collect();
    let mut started = Vec::new();
    for (job, placed) in waiting.iter().zip(place_on(&nodes, &asked)) {
        let is_own = placed.node.is_some_and(|node| nodes[node].name == *own);
        if placed.placement != Placement::Start || !is_own || (job.is_gang && gathers) {
            continue;
        }
        gathers |= job.is_gang;
        let Some(stored) = jobs::lock(&mut transaction, job.id).await? else { continue };
        let assigned = state.machine.assign(&job.asked, &here);
        let details = Details { assigned: assigned.clone(), ..Details::default() };
        let event = JobEvent::Tick { capacity: true };
        let changed = change::within(state, &mut transaction, stored, event, details).await?;
        here.push(assigned.clone());
        started.push(Started { id: job.id, changed, assigned });
    }
    transaction.commit().await?;
    if !started.is_empty() {
        state.outbox.wake();
    }
    Ok(started)
}
