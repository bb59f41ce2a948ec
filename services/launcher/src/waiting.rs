//! Why jobs wait, and in which order.

use std::collections::HashMap;

use slipway_api::rest::launcher::{CapacityReport, Waiting};
use slipway_domain::training::{BackendKind, Capacity, Placement, Resources, place_on, total};
use slipway_http_server::Problem;
use slipway_runtime::clock::now_unix_ms;
use uuid::Uuid;

use crate::state::State;
use crate::store::{jobs, launchers};

/// Jobs of which the place in the order is known.
const MAX_EXPLAINED: i64 = 1_000;

/// What each waiting job waits for as of now.
pub(crate) async fn explain(state: &State) -> Result<HashMap<Uuid, Waiting>, Problem> {
    let mut connection = state.pool.acquire().await?;
    let mut explained = HashMap::new();
    for backend in BackendKind::ALL {
        let startable = jobs::startable(&mut connection, backend, now_unix_ms(), MAX_EXPLAINED).await?;
        if startable.is_empty() {
            continue;
        }
        let nodes = launchers::nodes(&mut connection, backend).await?;
        let asked: Vec<Resources> = startable.iter().map(|job| job.asked).collect();
        let gathers = match startable.iter().any(|job| job.is_gang) {
            true => jobs::active(&mut connection).await?.into_iter().find(jobs::Active::gathers),
            false => None,
        };
        let placed = place_on(&nodes, &asked).into_iter().zip(&startable).map(|(placed, job)| {
            match (&gathers, placed.placement) {
                (Some(other), Placement::Start) if job.is_gang => after(other.id),
                (_, placement) => reason(placement),
            }
        });
        explained.extend(startable.iter().map(|job| job.id).zip(placed));
    }
    Ok(explained)
}

fn reason(placement: Placement) -> Waiting {
    match placement {
        Placement::Start => Waiting { position: None, reason: "starts next".to_owned() },
        Placement::Wait { position, reason } => Waiting { position: Some(position), reason },
        Placement::Never { reason } => Waiting { position: None, reason },
    }
}

fn after(other: Uuid) -> Waiting {
    let reason = format!("starts when all processes of job {other} run: distributed jobs start one by one");
    Waiting { position: None, reason }
}

/// What all machines of launchers have for jobs, and how much of it they use. What a cluster has is not
/// known.
pub(crate) async fn capacity(state: &State) -> Result<CapacityReport, Problem> {
    let mut connection = state.pool.acquire().await?;
    let backend = BackendKind::Local;
    let nodes = launchers::nodes(&mut connection, backend).await?;
    let mut active = jobs::active(&mut connection).await?;
    active.retain(|job| job.owner.as_ref().is_none_or(|owner| owner.backend == backend.as_str()));
    let waiting = jobs::startable(&mut connection, backend, now_unix_ms(), MAX_EXPLAINED).await?;
    let machine = &state.machine;
    let capacity =
        nodes.iter().fold(Capacity { cpus: 0.0, memory_bytes: 0, gpus: 0 }, |sum, node| Capacity {
            cpus: sum.cpus + node.capacity.cpus,
            memory_bytes: sum.memory_bytes.saturating_add(node.capacity.memory_bytes),
            gpus: sum.gpus.saturating_add(node.capacity.gpus),
        });
    Ok(CapacityReport {
        capacity: capacity.into(),
        used: total(active.iter().map(|job| &job.asked)).into(),
        running: active.len(),
        waiting: waiting.len(),
        cores: machine.cores.clone(),
        gpus: machine.gpus.clone(),
        nodes: nodes.into_iter().map(Into::into).collect(),
    })
}
