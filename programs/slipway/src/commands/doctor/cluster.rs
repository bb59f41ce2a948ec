//! Facts about a cluster.

use base64::Engine as _;
use serde_json::{Value, json};
use slipway_doctor::cluster::{self, Definition, RIGHTS, Scope, Workload};
use slipway_doctor::{Finding, clock};

use super::certificates;
use crate::connection::KubeOptions;
use crate::kubernetes::Cluster;

const CLASSES: &str = "/apis/storage.k8s.io/v1/storageclasses";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
const LABELS: &str = "labelSelector=app.kubernetes.io/part-of%3Dslipway";
const DATE_SLACK_MS: u64 = 1_500;
/// Definitions that the platform works without.
const OPTIONAL: &str = "inferenceservices.serving.kserve.io";

pub(super) async fn check(options: &KubeOptions) -> Vec<Finding> {
    let cluster = match Cluster::connect(options).await {
        Ok(cluster) => cluster,
        Err(error) => return vec![cluster::unreachable(&format!("{error:#}"))],
    };
    let version = match cluster.get("/version").await {
        Ok(answer) => cluster::version(&answer),
        Err(refused) => return vec![cluster::unreachable(&refused.message)],
    };
    let mut findings = vec![Finding::ok("kubernetes", format!("context {}", cluster.context)), version];
    let date = cluster.date().await;
    let difference = date.as_deref().and_then(certificates::difference_ms);
    findings.extend(difference.map(|ms| clock("kubernetes", ms, DATE_SLACK_MS)));
    findings.extend(read(&cluster, "nodes", "/api/v1/nodes", cluster::nodes).await);
    findings.extend(read(&cluster, "storage class", CLASSES, |list| vec![cluster::storage(list)]).await);
    findings.extend(read(&cluster, "metrics API", "/apis", |groups| vec![cluster::metrics(groups)]).await);
    findings.extend(definitions(&cluster).await);
    findings.extend(rights(&cluster).await);
    findings.extend(installed(&cluster).await);
    findings
}

async fn read(
    cluster: &Cluster,
    check: &str,
    path: &str,
    judge: impl FnOnce(&Value) -> Vec<Finding>,
) -> Vec<Finding> {
    match cluster.get(path).await {
        Ok(answer) => judge(&answer),
        Err(refused) => vec![cluster::not_readable(check, &refused.message)],
    }
}

async fn definitions(cluster: &Cluster) -> Vec<Finding> {
    let mut findings = Vec::new();
    for document in slipway_manifest_lint::Definitions::documents().unwrap_or_default() {
        let name = document["metadata"]["name"].as_str().unwrap_or_default();
        let release = Definition { name, document: &document, optional: name == OPTIONAL };
        findings.push(match cluster.get(&format!("{DEFINITIONS}/{name}")).await {
            Ok(found) => cluster::definition(release, Some(&found)),
            Err(refused) if refused.status == 404 => cluster::definition(release, None),
            Err(refused) => cluster::not_readable(&format!("definition {name}"), &refused.message),
        });
    }
    findings
}

async fn rights(cluster: &Cluster) -> Vec<Finding> {
    let mut allowed = Vec::new();
    for right in RIGHTS {
        let mut attributes = json!({"group": right.group, "resource": right.resource, "verb": right.verb});
        if right.scope == Scope::Namespace {
            attributes["namespace"] = cluster.namespace.clone().into();
        }
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes}});
        match cluster.post(REVIEWS, &review).await {
            Ok(answer) => allowed.push(answer["status"]["allowed"] == true),
            Err(refused) => return vec![cluster::not_readable("rights", &refused.message)],
        }
    }
    cluster::rights(&cluster.namespace, &allowed)
}

/// The platform's workloads, and certificates of its namespace.
async fn installed(cluster: &Cluster) -> Vec<Finding> {
    let mut workloads = Vec::new();
    for kind in ["deployments", "statefulsets"] {
        let path = format!("/apis/apps/v1/namespaces/{}/{kind}?{LABELS}", cluster.namespace);
        match cluster.get(&path).await {
            Ok(list) => workloads.extend(Workload::listed(&list)),
            Err(refused) => return vec![cluster::not_readable("platform", &refused.message)],
        }
    }
    let mut findings = cluster::workloads(&cluster.namespace, &workloads);
    let namespace = &cluster.namespace;
    let path = format!("/api/v1/namespaces/{namespace}/secrets?fieldSelector=type%3Dkubernetes.io%2Ftls");
    findings.extend(
        read(cluster, "certificates", &path, |list| {
            let ends: Vec<(String, Option<i64>)> =
                list["items"].as_array().into_iter().flatten().map(end_of_secret).collect();
            cluster::certificates(&ends, certificates::now_s())
        })
        .await,
    );
    findings
}

fn end_of_secret(secret: &Value) -> (String, Option<i64>) {
    let name = secret["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let encoded = secret["data"]["tls.crt"].as_str().unwrap_or_default();
    let pem = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default();
    (name, certificates::end_of_pem(&pem))
}
