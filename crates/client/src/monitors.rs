//! The drift monitor's REST API, v1.

use reqwest::Method;
use serde_json::{Map, Value};
use slipway_api::rest::PageQuery;
use slipway_api::rest::monitors::{
    Actions, DriftVerdicts, Monitor, MonitorSpec, Monitors, MonitorsQuery, Window, Windows,
};

use crate::{Client, Error, Request};

/// A client of the drift monitor. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DriftMonitor {
    client: Client,
}

impl From<Client> for DriftMonitor {
    fn from(client: Client) -> Self {
        Self { client }
    }
}

impl DriftMonitor {
    /// A request for a path below `/api/v1`.
    fn request(&self, method: Method, segments: &[&str]) -> Request<'_> {
        self.client.request(method, &[&["api", "v1"], segments].concat())
    }

    /// Lists monitors.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn monitors(&self, query: &MonitorsQuery) -> Result<Monitors, Error> {
        self.request(Method::GET, &["monitors"]).query(query).read().await
    }

    /// Creates a monitor.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_monitor(&self, spec: &MonitorSpec) -> Result<Monitor, Error> {
        self.request(Method::POST, &["monitors"]).json(spec).read().await
    }

    /// Shows a monitor.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn monitor(&self, name: &str) -> Result<Monitor, Error> {
        self.request(Method::GET, &["monitors", name]).read().await
    }

    /// Replaces the specification of a monitor.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn replace_monitor(&self, name: &str, spec: &MonitorSpec) -> Result<Monitor, Error> {
        self.request(Method::PUT, &["monitors", name]).json(spec).read().await
    }

    /// Changes settings of a monitor by JSON Merge Patch, whose fields are those of
    /// [`MonitorPatch`](slipway_api::rest::monitors::MonitorPatch).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn update_monitor(&self, name: &str, patch: &Map<String, Value>) -> Result<Monitor, Error> {
        self.request(Method::PATCH, &["monitors", name]).json(patch).read().await
    }

    /// Deletes a monitor.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_monitor(&self, name: &str) -> Result<(), Error> {
        self.request(Method::DELETE, &["monitors", name]).done().await
    }

    /// Lists closed windows.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn windows(&self, monitor: &str, page: &PageQuery) -> Result<Windows, Error> {
        self.request(Method::GET, &["monitors", monitor, "windows"]).query(page).read().await
    }

    /// Shows a closed window.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn window(&self, monitor: &str, number: u64) -> Result<Window, Error> {
        self.request(Method::GET, &["monitors", monitor, "windows", &number.to_string()]).read().await
    }

    /// Lists verdicts.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn verdicts(&self, monitor: &str, page: &PageQuery) -> Result<DriftVerdicts, Error> {
        self.request(Method::GET, &["monitors", monitor, "verdicts"]).query(page).read().await
    }

    /// Lists actions.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn actions(&self, monitor: &str, page: &PageQuery) -> Result<Actions, Error> {
        self.request(Method::GET, &["monitors", monitor, "actions"]).query(page).read().await
    }
}
