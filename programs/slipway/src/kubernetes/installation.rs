//! The services of an installation, found by their labels, and reached through the API server.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, anyhow, bail};
use secrecy::SecretString;
use serde_json::Value;

use super::Cluster;
use super::forward::Forward;
use crate::connection::KubeOptions;
use crate::services::SERVICES;

const PART_OF: &str = "app.kubernetes.io/part-of%3Dslipway";
const COMPONENT: &str = "app.kubernetes.io/component";
const NAME: &str = "app.kubernetes.io/name";
const INSTANCE: &str = "app.kubernetes.io/instance";
/// Key of the administrator's token in the Secret `RELEASE-tokens`.
const ADMIN_TOKEN: &str = "admin-token";

/// An installation that answers at local addresses for as long as this value lives.
pub(crate) struct Reached {
    /// URLs by the keys of `endpoints.json`.
    pub(crate) services: BTreeMap<String, String>,
    /// The administrator's token, if it was asked for.
    pub(crate) admin_token: Option<SecretString>,
    _forwards: Vec<Forward>,
}

/// A pod of the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pod {
    name: String,
    release: String,
    service: String,
    ports: Vec<u16>,
    ready: bool,
}

/// Finds the services, and opens a local port for each of their ports.
pub(crate) async fn reach(options: &KubeOptions) -> anyhow::Result<Reached> {
    let cluster = Cluster::connect(options).await?;
    let pods = pods(&cluster).await?;
    let release = release(&pods, options.kube_release.as_deref(), &cluster)?;
    let (mut services, mut forwards) = (BTreeMap::new(), Vec::new());
    for service in &SERVICES {
        let Some(pod) = chosen(&pods, &release, service.name) else { continue };
        for listener in service.listeners.iter().filter(|listener| pod.ports.contains(&listener.port.number))
        {
            let forward = Forward::open(&cluster, &pod.name, listener.port.number).await?;
            services.insert(listener.port.key.to_owned(), forward.url());
            forwards.push(forward);
        }
    }
    if services.is_empty() {
        bail!(
            "release {release} in the namespace {} of {} has no pod that is ready: see `kubectl --namespace \
             {} get pods`",
            cluster.namespace,
            cluster.context,
            cluster.namespace
        );
    }
    let admin_token =
        if options.kube_admin_token { Some(admin_token(&cluster, &release).await?) } else { None };
    Ok(Reached { services, admin_token, _forwards: forwards })
}

async fn pods(cluster: &Cluster) -> anyhow::Result<Vec<Pod>> {
    let path = format!("/api/v1/namespaces/{}/pods?labelSelector={PART_OF}", cluster.namespace);
    let list = cluster.get(&path).await.map_err(|refused| {
        anyhow!(
            "cannot list pods in the namespace {} of {}: {}",
            cluster.namespace,
            cluster.context,
            refused.message
        )
    })?;
    Ok(list["items"].as_array().into_iter().flatten().map(pod).collect())
}

fn pod(object: &Value) -> Pod {
    let label = |name: &str| object["metadata"]["labels"][name].as_str().unwrap_or_default().to_owned();
    let (component, name) = (label(COMPONENT), label(NAME));
    let containers = object["spec"]["containers"].as_array().into_iter().flatten();
    let ports = containers.flat_map(|container| container["ports"].as_array().into_iter().flatten());
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let ends = !object["metadata"]["deletionTimestamp"].is_null();
    Pod {
        name: object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        release: label(INSTANCE),
        service: if component.is_empty() { name } else { component },
        ports: ports
            .filter_map(|port| port["containerPort"].as_u64().and_then(|port| u16::try_from(port).ok()))
            .collect(),
        ready: !ends && conditions.into_iter().any(|one| one["type"] == "Ready" && one["status"] == "True"),
    }
}

/// The release that is meant.
fn release(pods: &[Pod], wanted: Option<&str>, cluster: &Cluster) -> anyhow::Result<String> {
    let is_service = |pod: &&Pod| SERVICES.iter().any(|service| service.name == pod.service);
    let releases: BTreeSet<&str> = pods.iter().filter(is_service).map(|pod| pod.release.as_str()).collect();
    let releases: Vec<&str> = releases.into_iter().collect();
    let place = format!("the namespace {} of {}", cluster.namespace, cluster.context);
    named(&releases, wanted, &place)
}

fn named(releases: &[&str], wanted: Option<&str>, place: &str) -> anyhow::Result<String> {
    match (wanted, releases) {
        (_, []) => bail!(
            "no installation in {place} (pods with the label app.kubernetes.io/part-of=slipway): use \
             --kube-namespace"
        ),
        (Some(wanted), _) if releases.contains(&wanted) => Ok(wanted.to_owned()),
        (Some(wanted), _) => {
            bail!("--kube-release {wanted:?}: no such release in {place}, expected {}", releases.join(", "))
        }
        (None, [one]) => Ok((*one).to_owned()),
        (None, _) => {
            bail!("several releases in {place}: use --kube-release with one of {}", releases.join(", "))
        }
    }
}

/// A pod of a service, one that is ready where there is one.
fn chosen<'pods>(pods: &'pods [Pod], release: &str, service: &str) -> Option<&'pods Pod> {
    let mut of_service =
        pods.iter().filter(|pod| pod.release == release && pod.service == service && pod.ready);
    of_service.next()
}

async fn admin_token(cluster: &Cluster, release: &str) -> anyhow::Result<SecretString> {
    use base64::Engine as _;
    let name = format!("{release}-tokens");
    let path = format!("/api/v1/namespaces/{}/secrets/{name}", cluster.namespace);
    let secret = cluster.get(&path).await.map_err(|refused| {
        anyhow!("cannot read the administrator's token from the Secret {name}: {}", refused.message)
    })?;
    let encoded = secret["data"][ADMIN_TOKEN].as_str();
    let encoded = encoded.with_context(|| format!("the Secret {name} has no key {ADMIN_TOKEN}"))?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded);
    let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let text = text.with_context(|| format!("the key {ADMIN_TOKEN} of the Secret {name} is not text"))?;
    Ok(text.trim().to_owned().into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(name: &str, service: &str, ready: &str) -> Value {
        json!({"metadata": {"name": name, "labels": {COMPONENT: service, NAME: "slipway", INSTANCE: "prod"}},
            "spec": {"containers": [{"ports": [{"containerPort": 5000}, {"containerPort": 70000}]}, {}]},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}})
    }

    #[test]
    fn a_pod_that_is_ready_and_stays_is_chosen() {
        let mut ending = object("a", "registry", "True");
        ending["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let objects = [ending, object("b", "registry", "False"), object("c", "registry", "True")];
        let pods: Vec<Pod> = objects.iter().map(pod).collect();
        assert_eq!(pods[2].ports, [5000]);
        assert_eq!(chosen(&pods, "prod", "registry").unwrap().name, "c");
        assert_eq!(chosen(&pods, "prod", "launcher"), None);
        assert_eq!(chosen(&pods, "other", "registry"), None);
    }

    #[test]
    fn the_release_is_the_only_one_or_the_one_that_is_named() {
        assert_eq!(named(&["a"], None, "x").unwrap(), "a");
        assert_eq!(named(&["a", "b"], Some("b"), "x").unwrap(), "b");
        for (releases, wanted, expected) in [
            (&[][..], None, "no installation in x"),
            (&["a", "b"], None, "--kube-release with one of a, b"),
            (&["a"], Some("z"), "--kube-release \"z\": no such release in x, expected a"),
        ] {
            let error = named(releases, wanted, "x").unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
