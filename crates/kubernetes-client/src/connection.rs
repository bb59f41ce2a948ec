//! The Kubernetes cluster of a service.

use std::fmt::Debug;

use anyhow::Context as _;
use kube::Client;

/// In place of the names of namespaces: all of the cluster.
pub const ALL_NAMESPACES: &str = "*";

/// How the cluster is reached, and which part of it. Cheap to clone.
#[derive(Clone)]
pub struct Connection {
    /// The client of its API server.
    pub client: Client,
    /// Namespaces whose objects count; [`ALL_NAMESPACES`] is all of them.
    pub namespaces: Vec<String>,
}

impl Debug for Connection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Connection").field("namespaces", &self.namespaces).finish_non_exhaustive()
    }
}

impl Connection {
    /// That of the kubeconfig, or of the pod that this process runs in. Where no namespace is named, it is
    /// that of the kubeconfig or the pod.
    ///
    /// # Errors
    /// There is neither.
    pub async fn connect(namespaces: &[String]) -> anyhow::Result<Self> {
        let found = kube::Config::infer()
            .await
            .context("found neither a kubeconfig (KUBECONFIG) nor a pod's service account")?;
        let own = found.default_namespace.clone();
        let client = Client::try_from(found).context("the client of the API server cannot be made")?;
        Ok(Self { client, namespaces: named(namespaces, &own) })
    }
}

/// The namespaces; `own` if none is named.
fn named(namespaces: &[String], own: &str) -> Vec<String> {
    let named: Vec<String> = namespaces.iter().filter(|name| !name.is_empty()).cloned().collect();
    if named.iter().any(|name| name == ALL_NAMESPACES) {
        return vec![ALL_NAMESPACES.to_owned()];
    }
    if named.is_empty() { vec![own.to_owned()] } else { named }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_those_that_are_named_or_the_own_one() {
        let namespaces = |given: &[&str]| {
            let given: Vec<String> = given.iter().map(|&name| name.to_owned()).collect();
            named(&given, "own")
        };
        assert_eq!(namespaces(&[]), ["own"]);
        assert_eq!(namespaces(&[""]), ["own"]);
        assert_eq!(namespaces(&["a", "b"]), ["a", "b"]);
        assert_eq!(namespaces(&["a", "*"]), [ALL_NAMESPACES]);
    }
}
