//! ModelDeployments: deployments that people ask for by creating objects in a Kubernetes cluster.
//!
//! The leader watches the objects and follows them: what is to be done about one is
//! [`slipway_kubernetes_resources::model_deployment::step`], and the objects that it needs are
//! [`slipway_kubernetes_serving::build`]. Another replica that still takes itself for the leader does no
//! harm: a deployment is created once for the object's name, a rollout once for its generation, objects are
//! applied as a whole, and a status is written to the version of the object that was read.

mod applied;
mod apply;
mod children;
mod config;
mod custom_metrics;
mod deliver;
mod delivery_jobs;
mod deployed;
mod fault_replay;
mod follow;
mod follower;
mod keda;
mod kserve;
mod monitor;
mod peers;
mod pool;
mod versions;

use std::time::Duration;

use kube::runtime::watcher;
use slipway_kubernetes_client::{Connection, reflect, text};
use slipway_kubernetes_resources::model_deployment::ModelDeployment;
use slipway_kubernetes_serving::Facts;
use slipway_lease::Lease;
use slipway_service_kit::Tasks;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::children::{Children, Kinds};
pub use self::config::OperatorConfig;
pub use self::custom_metrics::CustomMetricsConfig;
pub(crate) use self::delivery_jobs::Deliveries;
use self::follower::Follower;
use crate::state::State;

/// How often it is looked whether the cluster has other kinds of objects.
const KINDS_INTERVAL: Duration = Duration::from_secs(60);
const KINDS_RETRY: Duration = Duration::from_secs(2);

/// The cluster of this controller.
///
/// # Errors
/// A setting is missing, or there is neither a kubeconfig nor a pod's account.
pub(crate) async fn connect(config: &OperatorConfig) -> anyhow::Result<Option<Operated>> {
    if !config.operator {
        return Ok(None);
    }
    let facts = config.facts()?;
    let cluster = Connection::connect(&config.operator_namespaces).await;
    let cluster = cluster.map_err(|error| error.context("--operator"))?;
    Ok(Some(Operated { cluster, facts, kserve: config.kserve_compat }))
}

/// The cluster of the operator, and what it knows about it. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Operated {
    cluster: Connection,
    facts: Facts,
    /// Whether InferenceServices are run, too.
    kserve: bool,
}

/// Starts to follow the objects of a cluster, if there is one, and to serve the custom metrics API.
///
/// # Errors
/// The API cannot be served.
pub(crate) async fn start(
    tasks: &mut Tasks,
    config: &OperatorConfig,
    operated: Option<Operated>,
    state: &State,
    lease: &Lease,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let loads = state.replicas.loads.clone();
    custom_metrics::start(&config.custom_metrics, loads, tasks, shutdown).await?;
    if let Some(operated) = operated {
        let deliveries = Deliveries::new(operated.cluster.clone(), operated.facts.clone());
        let state = State { deliveries: Some(deliveries), ..state.clone() };
        let following = run(state, operated, lease.clone(), shutdown.clone());
        tasks.spawn("model-deployments", following);
    }
    Ok(())
}

/// Follows the objects while this replica leads, until `shutdown`.
async fn run(state: State, operated: Operated, lease: Lease, shutdown: CancellationToken) {
    let ended = shutdown.clone();
    let work = move |_term| {
        let (state, operated, shutdown) = (state.clone(), operated.clone(), ended.clone());
        async move {
            let following = Box::pin(follow_all(state, operated));
            shutdown.run_until_cancelled_owned(following).await.unwrap_or_default();
        }
    };
    lease.lead(shutdown, work).await;
}

/// Follows the objects, and begins again when the cluster gets a kind of object that it did not have. Does
/// not return.
async fn follow_all(state: State, operated: Operated) {
    loop {
        let kinds = kinds(&operated.cluster).await;
        tokio::select! {
            () = follow(&state, &operated, kinds.clone()) => {}
            () = others(&operated.cluster, &kinds) => {
                tracing::info!("the kinds of objects of the cluster are others");
            }
        }
    }
}

/// The kinds that there are; waits until the API server answers.
async fn kinds(cluster: &Connection) -> Kinds {
    loop {
        match Kinds::of(cluster).await {
            Ok(kinds) => return kinds,
            Err(error) => tracing::warn!(error = text(&error), "the API server does not answer; retrying"),
        }
        tokio::time::sleep(KINDS_RETRY).await;
    }
}

/// Waits until the cluster has other kinds.
async fn others(cluster: &Connection, kinds: &Kinds) {
    loop {
        tokio::time::sleep(KINDS_INTERVAL).await;
        if Kinds::of(cluster).await.is_ok_and(|now| now != *kinds) {
            return;
        }
    }
}

/// Does not return.
async fn follow(state: &State, operated: &Operated, kinds: Kinds) {
    let Operated { cluster, facts, kserve } = operated;
    let news = Notify::new();
    let (children, watched) = Children::watch(cluster, kinds, &news);
    let prune = |object: &mut ModelDeployment| object.metadata.managed_fields = None;
    let (stores, watches) = reflect(cluster, &watcher::Config::default(), prune, &news);
    let follower = Follower::new(state.clone(), cluster.clone(), facts.clone(), children);
    let services = async {
        match *kserve {
            true => kserve::follow(state, cluster, &stores).await,
            false => std::future::pending().await,
        }
    };
    tokio::join!(watches, watched, follower.run(&stores, &news), services);
}
