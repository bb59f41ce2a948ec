//! gRPC: monitors and windows, for other services.

use slipway_api::proto::drift::drift_monitor_server::DriftMonitor;
use slipway_api::proto::drift::{
    GetMonitorRequest, ListWindowsRequest, ListWindowsResponse, Monitor, Window,
};
use slipway_service_kit::Problem;
use slipway_service_kit::page::{PageQuery, cut};
use tonic::{Request, Response, Status};

use crate::state::App;
use crate::api::rest::find;
use crate::store::windows::{self, WindowRow};

/// The service.
#[derive(Debug)]
pub(crate) struct Service {
    app: App,
}

impl Service {
    pub(crate) const fn new(app: App) -> Self {
        Self { app }
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

#[tonic::async_trait]
impl DriftMonitor for Service {
    async fn get_monitor(&self, request: Request<GetMonitorRequest>) -> Result<Response<Monitor>, Status> {
        let found = find(&self.app, &request.into_inner().name).await?;
        Ok(Response::new(Monitor {
            spec_json: serde_json::to_string(&found.spec.0).map_err(Problem::internal)?,
            name: found.name,
            deployment: found.deployment,
            model: found.model,
            baseline_version: found.baseline_version.unwrap_or_default(),
            state: found.status,
        }))
    }

    async fn list_windows(
        &self,
        request: Request<ListWindowsRequest>,
    ) -> Result<Response<ListWindowsResponse>, Status> {
        let request = request.into_inner();
        let page = PageQuery {
            limit: (request.limit != 0).then_some(request.limit),
            page_token: Some(request.page_token),
        };
        let (limit, before) = (page.limit()?, page.after::<i64>()?);
        let monitor = find(&self.app, &request.monitor).await?;
        let found = windows::list(&self.app.pool, monitor.id, before, i64::from(limit) + 1).await;
        let (found, token) = cut(found.map_err(Problem::from)?, limit, |window| window.sequence);
        let windows = found.into_iter().map(message).collect();
        Ok(Response::new(ListWindowsResponse { windows, next_page_token: token.unwrap_or_default() }))
    }
}
