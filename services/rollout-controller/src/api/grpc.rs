//! gRPC: what other services ask and ask for.

use slipway_api::proto::rollout::rollout_controller_server::RolloutController;
use slipway_api::proto::rollout::{
    AliasMove, Deployment, Drill, GetDeploymentRequest, GetDrillRequest, GetRolloutRequest,
    PauseDeploymentRequest, PauseDeploymentResponse, RollbackRequest, Rollout, StartDrillRequest,
    StartRolloutRequest, StopDrillRequest,
};
use slipway_api::rest::rollouts::DrillRequest;
use slipway_http_server::Problem;
use slipway_http_server::extract::parse_json;
use tonic::{Request, Response, Status};

use crate::api::rest::bodies;
use crate::drills;
use crate::manage::{self, Requested};
use crate::state::State;
use crate::store::drills::StoredDrill;
use crate::store::rollouts::{self, StoredRollout};

/// The service.
#[derive(Debug)]
pub(crate) struct Service {
    state: State,
}

impl Service {
    pub(crate) const fn new(state: State) -> Self {
        Self { state }
    }

    async fn deployment(&self, name: &str) -> Result<Deployment, Problem> {
        let mut connection = self.state.pool.acquire().await?;
        let found = manage::find(&mut connection, name).await?;
        let newest = rollouts::newest(&mut connection, found.deployment_key).await?;
        let active = newest.filter(|newest| newest.state.is_active());
        let traffic = found.traffic.0;
        let (stable_version, stable_digest) =
            traffic.stable.map(|stable| (stable.version, stable.digest)).unwrap_or_default();
        Ok(Deployment {
            name: found.name,
            model: found.model,
            stable_version,
            stable_digest,
            active_rollout_id: active.map(|active| active.id.to_string()).unwrap_or_default(),
            prediction_output: traffic.prediction_output.unwrap_or_default(),
            table_revision: traffic.revision,
            id: found.id.to_string(),
            last_alias_move: found.last_alias_move.map(|moved| alias_move(moved.0)),
            kill_switch: traffic
                .kill_switch
                .map(|switch| switch.mode.as_str().to_owned())
                .unwrap_or_default(),
        })
    }
}

fn alias_move(moved: slipway_api::events::AliasMove) -> AliasMove {
    AliasMove {
        alias: moved.alias,
        version: moved.version,
        outcome: moved.outcome.as_str().to_owned(),
        reason: moved.reason,
        rollout_id: moved.rollout_id.unwrap_or_default(),
        at_unix_ms: moved.at_unix_ms,
    }
}

fn message(stored: StoredRollout) -> Rollout {
    Rollout {
        id: stored.id.to_string(),
        deployment: stored.deployment,
        deployment_id: stored.deployment_id.to_string(),
        from_version: stored.state.from().map(|from| from.version.clone()).unwrap_or_default(),
        to_version: stored.state.to().version.clone(),
        phase: stored.state.phase().as_str().to_owned(),
        weight_percent: u32::from(stored.state.weight_percent()),
        reason: stored.state.reason().to_owned(),
    }
}

fn drill_message(stored: StoredDrill, deployment: String) -> Drill {
    let drill = bodies::drill(stored, deployment);
    Drill {
        report_json: serde_json::json!(drill).to_string(),
        id: drill.id.to_string(),
        deployment: drill.deployment,
        version: drill.version,
        phase: drill.phase.as_str().to_owned(),
        summary: drill.summary,
    }
}

fn given(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

#[tonic::async_trait]
impl RolloutController for Service {
    async fn get_deployment(
        &self,
        request: Request<GetDeploymentRequest>,
    ) -> Result<Response<Deployment>, Status> {
        Ok(Response::new(self.deployment(&request.into_inner().name).await?))
    }

    async fn start_rollout(
        &self,
        request: Request<StartRolloutRequest>,
    ) -> Result<Response<Rollout>, Status> {
        let request = request.into_inner();
        let strategy = given(request.strategy_json).map(|json| parse_json(json.as_bytes())).transpose()?;
        let new =
            Requested { version: request.version, strategy, idempotency_key: given(request.idempotency_key) };
        let (stored, _) = manage::start(&self.state, &request.deployment, new).await?;
        Ok(Response::new(message(stored)))
    }

    async fn get_rollout(&self, request: Request<GetRolloutRequest>) -> Result<Response<Rollout>, Status> {
        let id = manage::rollout_id(&request.into_inner().id)?;
        let mut connection = self.state.pool.acquire().await.map_err(Problem::from)?;
        let found = rollouts::find(&mut connection, id).await.map_err(Problem::from)?;
        Ok(Response::new(message(found.ok_or_else(|| Problem::not_found(format!("rollout `{id}`")))?)))
    }

    async fn pause_deployment(
        &self,
        request: Request<PauseDeploymentRequest>,
    ) -> Result<Response<PauseDeploymentResponse>, Status> {
        let request = request.into_inner();
        let key = given(request.idempotency_key);
        let paused = manage::pause(&self.state, &request.deployment, &request.reason, key.as_deref()).await?;
        Ok(Response::new(PauseDeploymentResponse { rollout: paused.map(message) }))
    }

    async fn rollback(&self, request: Request<RollbackRequest>) -> Result<Response<Deployment>, Status> {
        let request = request.into_inner();
        manage::roll_back(&self.state, &request.deployment, given(request.to_version), &request.reason)
            .await?;
        Ok(Response::new(self.deployment(&request.deployment).await?))
    }

    async fn start_drill(&self, request: Request<StartDrillRequest>) -> Result<Response<Drill>, Status> {
        let StartDrillRequest { deployment, drill_json, idempotency_key } = request.into_inner();
        let wanted: DrillRequest = parse_json(drill_json.as_bytes())?;
        let key = given(idempotency_key);
        let (stored, _) = drills::start(&self.state, &deployment, wanted.into(), key.as_deref()).await?;
        Ok(Response::new(drill_message(stored, deployment)))
    }

    async fn get_drill(&self, request: Request<GetDrillRequest>) -> Result<Response<Drill>, Status> {
        let deployment = request.into_inner().deployment;
        Ok(Response::new(drill_message(drills::newest(&self.state, &deployment).await?, deployment)))
    }

    async fn stop_drill(&self, request: Request<StopDrillRequest>) -> Result<Response<Drill>, Status> {
        let StopDrillRequest { deployment, reason } = request.into_inner();
        let reason = given(reason).unwrap_or_else(|| "stopped by a client".to_owned());
        Ok(Response::new(drill_message(drills::stop(&self.state, &deployment, &reason).await?, deployment)))
    }
}
