//! The rollout controller's REST API, v1.

use reqwest::Method;
use serde_json::{Map, Value};
use slipway_api::rest::PageQuery;
use slipway_api::rest::rollouts::{
    CommandRequest, Decisions, Deployment, Deployments, Drill, DrillRequest, KillSwitchRequest,
    NewDeployment, NewRollout, RollbackRequest, Rollout, RolloutCommand, Rollouts, RolloutsQuery,
    RulesRequest,
};

use crate::{Client, Error, Request};

/// A client of the rollout controller. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RolloutController {
    client: Client,
}

impl From<Client> for RolloutController {
    fn from(client: Client) -> Self {
        Self { client }
    }
}

impl RolloutController {
    /// A request for a path below `/api/v1`.
    fn request(&self, method: Method, segments: &[&str]) -> Request<'_> {
        self.client.request(method, &[&["api", "v1"], segments].concat())
    }

    /// Lists deployments.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn deployments(&self, page: &PageQuery) -> Result<Deployments, Error> {
        self.request(Method::GET, &["deployments"]).query(page).read().await
    }

    /// Creates a deployment.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_deployment(&self, new: &NewDeployment) -> Result<Deployment, Error> {
        self.request(Method::POST, &["deployments"]).json(new).read().await
    }

    /// Shows a deployment.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn deployment(&self, name: &str) -> Result<Deployment, Error> {
        self.request(Method::GET, &["deployments", name]).read().await
    }

    /// Changes settings of a deployment by JSON Merge Patch, whose fields are those of
    /// [`DeploymentPatch`](slipway_api::rest::rollouts::DeploymentPatch).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn update_deployment(
        &self,
        name: &str,
        patch: &Map<String, Value>,
    ) -> Result<Deployment, Error> {
        self.request(Method::PATCH, &["deployments", name]).json(patch).read().await
    }

    /// Deletes a deployment.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_deployment(&self, name: &str) -> Result<(), Error> {
        self.request(Method::DELETE, &["deployments", name]).done().await
    }

    /// Rolls a deployment back.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn roll_back(&self, name: &str, request: &RollbackRequest) -> Result<Deployment, Error> {
        self.request(Method::POST, &["deployments", name, "rollback"]).json(request).read().await
    }

    /// Replaces the rules of a deployment.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn set_rules(&self, name: &str, request: &RulesRequest) -> Result<Deployment, Error> {
        self.request(Method::PUT, &["deployments", name, "rules"]).json(request).read().await
    }

    /// Activates the kill switch of a deployment.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn kill(&self, name: &str, request: &KillSwitchRequest) -> Result<Deployment, Error> {
        self.request(Method::PUT, &["deployments", name, "kill-switch"]).json(request).read().await
    }

    /// Deactivates the kill switch of a deployment.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn revive(&self, name: &str) -> Result<Deployment, Error> {
        self.request(Method::DELETE, &["deployments", name, "kill-switch"]).read().await
    }

    /// Starts a drill.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn start_drill(&self, name: &str, request: &DrillRequest) -> Result<Drill, Error> {
        self.request(Method::PUT, &["deployments", name, "drill"]).json(request).read().await
    }

    /// Shows the drill that runs, or the newest one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn drill(&self, name: &str) -> Result<Drill, Error> {
        self.request(Method::GET, &["deployments", name, "drill"]).read().await
    }

    /// Stops the drill that runs.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn stop_drill(&self, name: &str) -> Result<Drill, Error> {
        self.request(Method::DELETE, &["deployments", name, "drill"]).read().await
    }

    /// Starts a rollout.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn start_rollout(&self, deployment: &str, new: &NewRollout) -> Result<Rollout, Error> {
        self.request(Method::POST, &["deployments", deployment, "rollouts"]).json(new).read().await
    }

    /// Lists rollouts.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn rollouts(&self, query: &RolloutsQuery) -> Result<Rollouts, Error> {
        self.request(Method::GET, &["rollouts"]).query(query).read().await
    }

    /// Shows a rollout with its decisions.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn rollout(&self, id: &str) -> Result<Rollout, Error> {
        self.request(Method::GET, &["rollouts", id]).read().await
    }

    /// Lists the decisions about a rollout.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn decisions(&self, id: &str, page: &PageQuery) -> Result<Decisions, Error> {
        self.request(Method::GET, &["rollouts", id, "decisions"]).query(page).read().await
    }

    /// Gives a command to a rollout in progress.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn command(
        &self,
        id: &str,
        command: RolloutCommand,
        request: &CommandRequest,
    ) -> Result<Rollout, Error> {
        self.request(Method::POST, &["rollouts", id, command.as_str()]).json(request).read().await
    }
}
