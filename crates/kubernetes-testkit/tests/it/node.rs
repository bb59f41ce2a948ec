//! Containers on a real node.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;

use serde_json::json;
use slipway_kubernetes_testkit::{Archive, Cluster, Level, NODE_ADDRESS, NODE_NAME};

use crate::support::{KUBECTL_LIMIT, job, pod, wait_for_phase};

#[test]
fn a_container_runs_and_its_log_and_exit_code_arrive() {
    let Some(cluster) = Cluster::shared(Level::Node) else { return };
    let namespace = cluster.namespace();
    let command = ["sh", "-c", "echo step 1 of $STEPS; exit 3"];
    let mut training = pod("train", &command);
    training["spec"]["containers"][0]["env"] = json!([{ "name": "STEPS", "value": "10" }]);
    namespace.apply(&training.to_string()).unwrap();
    wait_for_phase(&namespace, "train", "Failed");
    assert_eq!(namespace.kubectl(&["logs", "train"]).unwrap(), "step 1 of 10");
    let code = "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}";
    assert_eq!(namespace.kubectl(&["get", "pod", "train", "--output", code]).unwrap(), "3");
}

#[test]
fn a_job_with_an_image_of_the_test_completes() {
    let Some(cluster) = Cluster::shared(Level::Node) else { return };
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("greet");
    std::fs::write(&script, "#!/bin/sh\ncat /data/word\n").unwrap();
    make_executable(&script);
    std::fs::create_dir(folder.path().join("data")).unwrap();
    std::fs::write(folder.path().join("data/word"), "loaded").unwrap();
    let mut archive = Archive::new("registry.local/greet:1");
    archive.base_files().file("/bin/greet", &script).unwrap();
    archive.folder("/data", &folder.path().join("data")).unwrap();
    // The machine's own programs, which need shared libraries.
    archive.file("/bin/cat", "/bin/cat".as_ref()).unwrap().file("/bin/sh", "/bin/sh".as_ref()).unwrap();
    archive.shared_libraries().unwrap().configure(json!({ "Entrypoint": ["/bin/greet"] }));
    cluster.load(&archive).unwrap();

    let namespace = cluster.namespace();
    let mut greeting = job("greet", json!({}));
    greeting["spec"]["template"]["spec"]["containers"] =
        json!([{ "name": "main", "image": "registry.local/greet:1" }]);
    namespace.apply(&greeting.to_string()).unwrap();
    namespace.kubectl(&["wait", "job/greet", "--for=condition=Complete", KUBECTL_LIMIT]).unwrap();
    assert_eq!(namespace.kubectl(&["logs", "job/greet"]).unwrap(), "loaded");
}

#[test]
fn a_pod_finds_services_and_the_pods_of_a_headless_service_by_name() {
    let Some(cluster) = Cluster::shared(Level::Node) else { return };
    let namespace = cluster.namespace();
    let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "group" },
        "spec": { "clusterIP": "None", "selector": { "app": "group" }, "publishNotReadyAddresses": true } });
    namespace.apply(&service.to_string()).unwrap();
    let mut member = pod("member", &["sleep", "600"]);
    member["metadata"]["labels"] = json!({ "app": "group" });
    member["spec"]["hostname"] = json!("member-0");
    member["spec"]["subdomain"] = json!("group");
    namespace.apply(&member.to_string()).unwrap();
    let name = format!("member-0.group.{}.svc.cluster.local", namespace.name());
    let script = format!(
        "until nslookup {name}; do sleep 0.2; done; nslookup kubernetes.default.svc.cluster.local && \
         ! nslookup example.com"
    );
    namespace.apply(&pod("client", &["sh", "-c", &script]).to_string()).unwrap();
    wait_for_phase(&namespace, "client", "Succeeded");
    let address = ["get", "pod", "member", "--output", "jsonpath={.status.podIP}"];
    let (address, log) =
        (namespace.kubectl(&address).unwrap(), namespace.kubectl(&["logs", "client"]).unwrap());
    assert!(log.contains(&address), "{address} is not in:\n{log}");
}

#[test]
fn containers_go_on_while_kubelet_is_killed_and_it_comes_back() {
    let Some(cluster) = Cluster::shared(Level::Node) else { return };
    let namespace = cluster.namespace();
    namespace.apply(&pod("runs", &["sh", "-c", "sleep 5; echo went on"]).to_string()).unwrap();
    wait_for_phase(&namespace, "runs", "Running");
    cluster.restart_kubelet().unwrap();
    wait_for_phase(&namespace, "runs", "Succeeded");
    assert_eq!(namespace.kubectl(&["logs", "runs"]).unwrap(), "went on");
    let restarts = "jsonpath={.status.containerStatuses[0].restartCount}";
    assert_eq!(namespace.kubectl(&["get", "pod", "runs", "--output", restarts]).unwrap(), "0");
    cluster.restart_kubelet().unwrap();
    namespace.apply(&pod("later", &["true"]).to_string()).unwrap();
    wait_for_phase(&namespace, "later", "Succeeded");
}

#[test]
fn a_pod_reaches_a_server_of_the_test_and_the_test_reaches_the_pod() {
    let Some(cluster) = Cluster::shared(Level::Node) else { return };
    cluster.join_network().unwrap();
    let server = TcpListener::bind((NODE_ADDRESS, 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    let namespace = cluster.namespace();
    let client = pod("client", &["sh", "-c", &format!("echo hello from a pod | nc {NODE_ADDRESS} {port}")]);
    namespace.apply(&client.to_string()).unwrap();
    let (connection, _) = server.accept().unwrap();
    let mut line = String::new();
    BufReader::new(connection).read_line(&mut line).unwrap();
    assert_eq!(line, "hello from a pod\n");

    namespace.apply(&pod("server", &["nc", "-l", "-p", "8000", "-e", "cat"]).to_string()).unwrap();
    wait_for_phase(&namespace, "server", "Running");
    let address =
        namespace.kubectl(&["get", "pod", "server", "--output", "jsonpath={.status.podIP}"]).unwrap();
    let mut connection = crate::support::wait_for("connection to the pod", || {
        std::net::TcpStream::connect(format!("{address}:8000")).ok()
    });
    connection.write_all(b"and back\n").unwrap();
    let mut line = String::new();
    BufReader::new(connection).read_line(&mut line).unwrap();
    assert_eq!(line, "and back\n");
}

#[test]
fn the_node_keeps_gpus_that_a_test_gave_it() {
    let Some(cluster) = Cluster::shared(Level::Node) else { return };
    cluster.offer(NODE_NAME, "nvidia.com/gpu", 2).unwrap();
    let namespace = cluster.namespace();
    let mut training = pod("train", &["true"]);
    training["spec"]["containers"][0]["resources"] = json!({ "limits": { "nvidia.com/gpu": "2" } });
    namespace.apply(&training.to_string()).unwrap();
    wait_for_phase(&namespace, "train", "Succeeded");
}

fn make_executable(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
