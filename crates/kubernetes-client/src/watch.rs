//! Watches of the API server.

use std::fmt::Debug;
use std::pin::pin;

use futures::StreamExt as _;
use kube::core::NamespaceResourceScope;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use crate::ALL_NAMESPACES;

/// Objects of a namespace, or of all.
pub fn api<K>(client: &Client, namespace: &str) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    if namespace == ALL_NAMESPACES {
        Api::all(client.clone())
    } else {
        Api::namespaced(client.clone(), namespace)
    }
}

/// Passes each event of a watch to `take`. Does not return.
pub async fn watch<K>(
    client: &Client,
    namespace: &str,
    config: watcher::Config,
    mut take: impl FnMut(Event<K>),
) where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + 'static,
{
    let mut events = pin!(watcher(api::<K>(client, namespace), config).default_backoff());
    let mut failing = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                // A list begins before the API server has answered.
                failing &= matches!(event, Event::Init);
                take(event);
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    let kind = K::plural(&());
                    tracing::warn!(%error, namespace, %kind, "watch of the API server failed; retrying");
                }
            }
        }
    }
}
