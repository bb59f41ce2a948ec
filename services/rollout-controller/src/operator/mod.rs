//! ModelDeployments: deployments that people ask for by creating objects in a Kubernetes cluster.
//!
//! The leader watches the objects and follows them: what is to be done about one is
//! [`slipway_kubernetes_resources::model_deployment::step`], and the objects that it needs are
//! [`slipway_kubernetes_serving::build`]. Another replica that still takes itself for the leader does no
//! harm: a deployment is created once for the object's name, a rollout once for its generation, objects are
//! applied as a whole, and a status is written to the version of the object that was read.

mod children;
mod config;
mod custom_metrics;
mod deployed;
mod follow;

use kube::runtime::watcher;
use slipway_kubernetes_client::{Connection, reflect};
use slipway_kubernetes_resources::model_deployment::ModelDeployment;
use slipway_kubernetes_serving::Facts;
use slipway_lease::Lease;
use slipway_service_kit::Tasks;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::children::Children;
pub use self::config::OperatorConfig;
pub use self::custom_metrics::CustomMetricsConfig;
use self::follow::Follower;
use crate::state::State;

/// The cluster of this controller.
///
/// # Errors
/// A setting is missing, or there is neither a kubeconfig nor a pod's account.
pub(crate) async fn connect(config: &OperatorConfig) -> anyhow::Result<Option<(Connection, Facts)>> {
    if !config.operator {
        return Ok(None);
    }
    let facts = config.facts()?;
    let cluster = Connection::connect(&config.operator_namespaces).await;
    cluster.map(|cluster| Some((cluster, facts))).map_err(|error| error.context("--operator"))
}

/// Starts to follow the objects of a cluster, if there is one, and to serve the custom metrics API.
///
/// # Errors
/// The API cannot be served.
pub(crate) async fn start(
    tasks: &mut Tasks,
    config: &OperatorConfig,
    cluster: Option<(Connection, Facts)>,
    state: &State,
    lease: &Lease,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let loads = state.replicas.loads.clone();
    custom_metrics::start(&config.custom_metrics, loads, tasks, shutdown).await?;
    if let Some(cluster) = cluster {
        let following = run(state.clone(), cluster, lease.clone(), shutdown.clone());
        tasks.spawn("model-deployments", following);
    }
    Ok(())
}

/// Follows the objects while this replica leads, until `shutdown`.
async fn run(state: State, cluster: (Connection, Facts), lease: Lease, shutdown: CancellationToken) {
    let ended = shutdown.clone();
    let work = move |_term| {
        let (state, (connection, facts), shutdown) = (state.clone(), cluster.clone(), ended.clone());
        async move {
            let following = Box::pin(follow_all(state, connection, facts));
            shutdown.run_until_cancelled_owned(following).await.unwrap_or_default();
        }
    };
    lease.lead(shutdown, work).await;
}

/// Does not return.
async fn follow_all(state: State, cluster: Connection, facts: Facts) {
    let news = Notify::new();
    let (children, watched) = Children::watch(&cluster, &news);
    let prune = |object: &mut ModelDeployment| object.metadata.managed_fields = None;
    let (stores, watches) = reflect(&cluster, &watcher::Config::default(), prune, &news);
    let follower = Follower::new(state, cluster.clone(), facts, children);
    tokio::join!(watches, watched, follower.run(&stores, &news));
}
