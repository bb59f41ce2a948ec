//! The Kubernetes cluster of this launcher.

use std::fmt::Debug;
use std::pin::pin;

use anyhow::Context as _;
use futures::StreamExt as _;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use crate::backend::kubernetes::KubernetesConfig;

/// How the cluster is reached, and which part of it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) client: Client,
    /// Namespaces of jobs; the first is that of jobs that name none.
    pub(crate) namespaces: Vec<String>,
}

impl Debug for Connection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Connection").field("namespaces", &self.namespaces).finish_non_exhaustive()
    }
}

impl Connection {
    /// That of the kubeconfig, or of the pod that this process runs in.
    ///
    /// # Errors
    /// There is neither.
    pub(crate) async fn connect(config: &KubernetesConfig) -> anyhow::Result<Self> {
        let found = kube::Config::infer()
            .await
            .context("--backend kubernetes: found neither a kubeconfig (KUBECONFIG) nor a pod's account")?;
        let namespaces = config.namespaces(&found.default_namespace);
        let client = Client::try_from(found).context("the client of the API server cannot be made")?;
        Ok(Self { client, namespaces })
    }
}

/// Passes each event of a watch to `take`. Does not return.
pub(crate) async fn watch<K>(
    client: &Client,
    namespace: &str,
    config: watcher::Config,
    mut take: impl FnMut(Event<K>),
) where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + 'static,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let mut events = pin!(watcher(api, config).default_backoff());
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

/// What an error of the API server says to people.
pub(crate) fn text(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        kube::Error::Api(status) => format!("HTTP status {} {}", status.code, status.reason),
        error => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(error);
            while let Some(cause) = source {
                let cause_text = cause.to_string();
                if !text.contains(&cause_text) {
                    text = format!("{text}: {cause_text}");
                }
                source = cause.source();
            }
            text
        }
    }
}
