//! A local port that leads to a port of a pod, as `kubectl port-forward` does it.

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use slipway_runtime::task;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::Cluster;
use crate::output::errln;

/// It ends when it is dropped.
pub(crate) struct Forward {
    port: u16,
    _task: AbortOnDropHandle<()>,
}

impl Forward {
    /// Listens on a free port of 127.0.0.1. The pod is connected to when a client connects.
    pub(crate) async fn open(cluster: &Cluster, pod: &str, port: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("cannot listen on 127.0.0.1")?;
        let local = listener.local_addr()?.port();
        let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
        let task = task::owned(accept(listener, pods, pod.to_owned(), port));
        Ok(Self { port: local, _task: task })
    }

    /// The local address.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

async fn accept(listener: TcpListener, pods: Api<Pod>, pod: String, port: u16) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let (pods, pod) = (pods.clone(), pod.clone());
        connections.spawn(async move {
            if let Err(error) = forward(client, &pods, &pod, port).await {
                errln!("port-forward to {pod}:{port}: {error:#}");
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn forward(mut client: TcpStream, pods: &Api<Pod>, pod: &str, port: u16) -> anyhow::Result<()> {
    let mut forwarder = pods
        .portforward(pod, &[port])
        .await
        .context("the API server refuses (the right to create pods/portforward is required)")?;
    let mut stream = forwarder.take_stream(port).context("the API server gave no stream")?;
    let problem = forwarder.take_error(port);
    // Either side may end first, without an error.
    let copied = tokio::io::copy_bidirectional(&mut client, &mut stream).await;
    drop(stream);
    forwarder.abort();
    if let (Err(_), Some(problem)) = (copied, problem)
        && let Some(message) = problem.await
    {
        anyhow::bail!("{message}");
    }
    Ok(())
}
