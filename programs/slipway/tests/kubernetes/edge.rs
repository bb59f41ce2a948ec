//! How clients reach the pods, and what pods may not ask for.

use serde_json::{Value, json};
use slipway_kubernetes_testkit::{Cluster, Level, go_module};
use slipway_testkit::TestAuthority;

use crate::rollouts::{MODEL, answers, immediate};
use crate::world::{World, manifest, on_a_cluster};

pub(crate) const ROLE: &str = include_str!("../../../../deploy/kubernetes/operator-edge-role.yaml");
/// The Gateway API, whose definitions are installed as its project publishes them.
const GATEWAY_API: (&str, &str, &str) =
    ("sigs.k8s.io/gateway-api", "v1.4.0", "h1:ZwlNM6zOHq0h3WUX2gfByPs2yAEsy/EenYJB78jpQfQ=");

pub(crate) fn install_gateway_api() {
    let (path, version, sum) = GATEWAY_API;
    let folder = go_module(path, version, sum).unwrap().join("config/crd/standard");
    let cluster = Cluster::shared(Level::Node).unwrap();
    for name in ["httproutes", "grpcroutes", "gateways", "gatewayclasses"] {
        let file = folder.join(format!("gateway.networking.k8s.io_{name}.yaml"));
        cluster.apply(&std::fs::read_to_string(file).unwrap()).unwrap();
        let definition = format!("crd/{name}.gateway.networking.k8s.io");
        cluster.kubectl(&["wait", &definition, "--for=condition=Established", "--timeout=60s"]).unwrap();
    }
}

fn refusal(world: &World) -> String {
    world.wait("condition=Degraded");
    world.found("md/fraud")["status"]["conditions"][0]["message"].as_str().unwrap().to_owned()
}

#[test]
fn routes_and_an_ingress_lead_to_the_service_and_go_with_the_fields() {
    on_a_cluster(async |mut world| {
        world.client.register(MODEL, "right-1.onnx").await;
        let mut further = immediate();
        further["ingress"] = json!({"host": "fraud.example.org", "annotations": {"a.example/b": "c"}});
        world.apply(&manifest(json!({"version": "1"}), &further));
        let refused = refusal(&world);
        assert!(
            refused.starts_with("spec.ingress: the operator may not make objects of the kind Ingress"),
            "{refused}"
        );

        tokio::task::block_in_place(install_gateway_api);
        world.allow("slipway-rollout-controller-edge", ROLE);
        world.set(&[]).await;
        further["route"] = json!({"gateways": [{"name": "public", "namespace": "edge"}],
            "hostnames": ["fraud.example.com"], "grpcHostnames": ["grpc.example.com"]});
        world.apply(&manifest(json!({"version": "1"}), &further));
        world.wait("condition=Ready");
        let ingress = world.found("ingress/fraud");
        assert_eq!(ingress["metadata"]["annotations"]["a.example/b"], "c", "{ingress:#}");
        let backend = &ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"];
        assert_eq!(backend, &json!({"name": "fraud", "port": {"number": 8000}}));
        let route = world.found("httproute/fraud");
        assert_eq!(route["spec"]["hostnames"], json!(["fraud.example.com"]), "{route:#}");
        assert_eq!(route["spec"]["rules"][0]["backendRefs"][0]["port"], 8000);
        assert_eq!(world.found("grpcroute/fraud")["spec"]["rules"][0]["backendRefs"][0]["port"], 8001);
        // Clients use these names, and get an answer.
        let service = world.service();
        let asked = service.http.get(format!("{}/v2/models/fraud", service.serving));
        let answer = asked.header("host", "fraud.example.com").send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());

        world.kubectl(&["delete", "httproute", "fraud"]);
        let there = async || (world.objects("httproutes").len() == 1).then_some(());
        world.eventually("the route is there again", there).await;
        world.apply(&manifest(json!({"version": "1"}), &immediate()));
        let gone = async || world.objects("ingresses,httproutes,grpcroutes").is_empty().then_some(());
        world.eventually("routes and Ingress are gone", gone).await;
    });
}

#[test]
fn pods_with_tls_are_ready_and_ask_for_certificates() {
    on_a_cluster(async |world| {
        world.client.register(MODEL, "right-1.onnx").await;
        let (authority, namespace) = (TestAuthority::new(), world.namespace.name().to_owned());
        let host = format!("fraud.{namespace}.svc");
        let (own, client) = (authority.issue(&host), authority.issue("client"));
        world.apply(&json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": "fraud-tls"}, "stringData": {"tls.crt": own.certificate, "tls.key": own.key,
                "ca.crt": authority.certificate()}}));
        let mut further = immediate();
        further["tls"] = json!({"secretName": "fraud-tls", "clientCertificates": true});
        world.apply(&manifest(json!({"version": "1"}), &further));
        world.wait("condition=Ready");
        let url = world.found("md/fraud")["status"]["url"].clone();
        assert_eq!(url, json!(format!("https://{host}:8000/v2/models/fraud")));
        let address = world.kubectl(&["get", "service", "fraud", "--output", "jsonpath={.spec.clusterIP}"]);
        let trusted = reqwest::Certificate::from_pem(authority.certificate().as_bytes()).unwrap();
        let identity = format!("{}{}", client.key, client.certificate);
        let identity = reqwest::Identity::from_pem(identity.as_bytes()).unwrap();
        let builder = || {
            let address = format!("{address}:8000").parse().unwrap();
            reqwest::Client::builder().tls_certs_only([trusted.clone()]).resolve(&host, address)
        };
        let with = builder().identity(identity).build().unwrap();
        let url = url.as_str().unwrap();
        let answered = async || {
            let answer = with.get(url).send().await.ok()?;
            answer.status().is_success().then_some(())
        };
        world.eventually("a client with a certificate is answered", answered).await;
        assert!(builder().build().unwrap().get(url).send().await.is_err(), "without one");
    });
}

#[test]
fn a_hostile_template_is_refused_and_a_harmless_one_is_used() {
    on_a_cluster(async |mut world| {
        world.client.register(MODEL, "right-1.onnx").await;
        let of = |template: Value| {
            let mut further = immediate();
            further["podTemplate"] = template;
            manifest(json!({"version": "1"}), &further)
        };
        let hostile = json!({"spec": {"hostPID": true, "containers": [{"name": "serving",
            "securityContext": {"privileged": true, "runAsUser": 0}}]}});
        world.apply(&of(hostile));
        let refused = refusal(&world);
        assert!(refused.starts_with("spec.podTemplate.spec.hostPID"), "{refused}");
        assert_eq!(world.objects("deployments"), [""; 0]);
        let harmless = json!({"metadata": {"annotations": {"team": "risk"}},
            "spec": {"terminationGracePeriodSeconds": 30}});
        world.apply(&of(harmless));
        world.wait("condition=Ready");
        answers(&world, "1").await;
        let pod = &world.found("deployment/fraud")["spec"]["template"];
        assert_eq!(pod["metadata"]["annotations"]["team"], "risk", "{pod:#}");
        assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 30);
        // An operator may allow it.
        world.set(&[("SLIPWAY_OPERATOR_ALLOW_PRIVILEGED_PODS", "true")]).await;
        world.apply(&of(json!({"spec": {"shareProcessNamespace": true, "hostPID": false}})));
        world.wait("condition=Ready");
    });
}
