//! Objects as their watches show them.

use std::fmt::Debug;

use futures::future::{BoxFuture, join_all};
use kube::Resource;
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use crate::{Connection, watch};

/// Watches the objects of one kind that `config` selects, in all namespaces of the cluster: a store for each
/// namespace, and the watches, which do not return. `prune` leaves out what is not looked at, and `news` is
/// told of each event.
pub fn reflect<'run, K>(
    cluster: &'run Connection,
    config: &watcher::Config,
    prune: fn(&mut K),
    news: &'run Notify,
) -> (Vec<Store<K>>, BoxFuture<'run, ()>)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + Sync
        + 'static,
{
    let mut stores = Vec::new();
    let mut watches: Vec<BoxFuture<'run, ()>> = Vec::new();
    for namespace in &cluster.namespaces {
        let (store, mut writer) = reflector::store();
        stores.push(store);
        watches.push(Box::pin(watch::<K>(&cluster.client, namespace, config.clone(), move |event| {
            writer.apply_watcher_event(&event.modify(prune));
            news.notify_one();
        })));
    }
    (stores, Box::pin(async move { drop(join_all(watches).await) }))
}
