//! gRPC: monitors and windows, for other services.

use http::StatusCode;
use slipway_api::proto::drift::drift_monitor_server::DriftMonitor;
use slipway_api::proto::drift::monitors_server::Monitors;
use slipway_api::proto::drift::{
    ApplyMonitorRequest, DeleteMonitorRequest, DeleteMonitorResponse, GetMonitorRequest, ListWindowsRequest,
    ListWindowsResponse, Monitor, Window,
};
use slipway_api::rest::monitors as body;
use slipway_http_server::Problem;
use slipway_http_server::extract::parse_json;
use slipway_http_server::page::PageQuery;
use tonic::{Request, Response, Status};

use crate::manage;
use crate::spec::MonitorSpec;
use crate::state::State;
use crate::store::monitors::Monitor as Stored;
use crate::store::windows::WindowRow;

/// Both services.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    state: State,
}

impl Service {
    pub(crate) const fn new(state: State) -> Self {
        Self { state }
    }
}

fn message(row: WindowRow) -> Window {
    Window {
        sequence: row.sequence.unsigned_abs(),
        opened_at_unix_ms: row.opened_at.timestamp_millis(),
        closed_at_unix_ms: row.closed_at.timestamp_millis(),
        rows: row.rows.unsigned_abs(),
        drifted: row.drifted,
        scores_json: row.scores.to_string(),
    }
}

fn monitor(found: Stored) -> Result<Monitor, Problem> {
    Ok(Monitor {
        spec_json: serde_json::to_string(&found.spec.0).map_err(Problem::internal)?,
        name: found.name,
        deployment: found.deployment,
        model: found.model,
        baseline_version: found.baseline_version.unwrap_or_default(),
        state: found.status,
    })
}

#[tonic::async_trait]
impl Monitors for Service {
    async fn apply(&self, request: Request<ApplyMonitorRequest>) -> Result<Response<Monitor>, Status> {
        let spec: body::MonitorSpec = parse_json(request.into_inner().spec_json.as_bytes())?;
        let applied = manage::apply(&self.state, &MonitorSpec::from(spec)).await?;
        Ok(Response::new(monitor(applied)?))
    }

    async fn delete(
        &self,
        request: Request<DeleteMonitorRequest>,
    ) -> Result<Response<DeleteMonitorResponse>, Status> {
        match manage::delete(&self.state, &request.into_inner().name).await {
            Err(problem) if problem.status() != StatusCode::NOT_FOUND => Err(problem.into()),
            _ => Ok(Response::new(DeleteMonitorResponse {})),
        }
    }
}

#[tonic::async_trait]
impl DriftMonitor for Service {
    async fn get_monitor(&self, request: Request<GetMonitorRequest>) -> Result<Response<Monitor>, Status> {
        Ok(Response::new(monitor(manage::find(&self.state, &request.into_inner().name).await?)?))
    }

    async fn list_windows(
        &self,
        request: Request<ListWindowsRequest>,
    ) -> Result<Response<ListWindowsResponse>, Status> {
        let request = request.into_inner();
        let page = PageQuery::of_message(request.limit, request.page_token);
        let found = manage::windows(&self.state, &request.monitor, &page).await?.map(message);
        Ok(Response::new(ListWindowsResponse {
            windows: found.items,
            next_page_token: found.next_page_token.unwrap_or_default(),
        }))
    }
}
