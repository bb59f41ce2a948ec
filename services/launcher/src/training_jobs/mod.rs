//! TrainingJobs: jobs that people submit by creating objects in the cluster.
//!
//! The leader watches the objects and follows them: what is to be done about one is
//! [`slipway_kubernetes_resources::training_job::step`]. Another launcher that still takes itself for the
//! leader does no harm: a job is submitted under the object's UID, every other request may be repeated, and a
//! status is written to the version of the object that was read.

mod follow;

use kube::runtime::watcher;
use slipway_kubernetes_client::{Connection, reflect};
use slipway_kubernetes_resources::training_job::TrainingJob;
use slipway_lease::Lease;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::follow::Follower;
use crate::state::State;

/// Follows the objects while this launcher leads, until `shutdown`.
pub(crate) fn run(
    state: State,
    cluster: Connection,
    lease: &Lease,
    shutdown: CancellationToken,
) -> impl Future<Output = ()> + Send + 'static {
    let work = {
        let shutdown = shutdown.clone();
        move |_term| {
            let (state, cluster, shutdown) = (state.clone(), cluster.clone(), shutdown.clone());
            async move {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = follow_all(state, &cluster) => {}
                }
            }
        }
    };
    Box::pin(lease.clone().lead(shutdown, work))
}

/// Does not return.
async fn follow_all(state: State, cluster: &Connection) {
    let news = Notify::new();
    let prune = |object: &mut TrainingJob| object.metadata.managed_fields = None;
    let (stores, watches) = reflect(cluster, &watcher::Config::default(), prune, &news);
    let follower = Follower::new(state, cluster.clone());
    tokio::join!(watches, follower.run(&stores, &news));
}
