//! TrainingJobs: jobs that people submit by creating objects in the cluster.
//!
//! The leader watches the objects and follows them: what is to be done about one is
//! [`slipway_kubernetes_resources::training_job::step`]. Another launcher that still takes itself for the
//! leader does no harm: a job is submitted under the object's UID, every other request may be repeated, and a
//! status is written to the version of the object that was read.

mod follow;

use futures::future::join_all;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher;
use slipway_kubernetes_client::{Connection, watch};
use slipway_kubernetes_resources::training_job::TrainingJob;
use slipway_lease::Lease;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::follow::Follower;
use crate::state::State;

/// Objects of all namespaces, as their watches have shown them.
#[derive(Debug, Default)]
struct Objects {
    stores: Vec<Store<TrainingJob>>,
    /// Told when there is news about one.
    news: Notify,
}

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
    let mut objects = Objects::default();
    let mut watches = Vec::new();
    for namespace in &cluster.namespaces {
        let (store, mut writer) = reflector::store();
        objects.stores.push(store);
        watches
            .push((namespace, move |event: &watcher::Event<TrainingJob>| writer.apply_watcher_event(event)));
    }
    let objects = &objects;
    let watches = watches.into_iter().map(|(namespace, mut take)| {
        watch::<TrainingJob>(&cluster.client, namespace, watcher::Config::default(), move |event| {
            take(&event.modify(|object| object.metadata.managed_fields = None));
            objects.news.notify_one();
        })
    });
    let follower = Follower::new(state, cluster.clone());
    tokio::join!(join_all(watches), follower.run(objects));
}
