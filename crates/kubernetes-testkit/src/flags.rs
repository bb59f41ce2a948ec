//! The flags of the programs.

use crate::Level;
use crate::layout::Layout;
use crate::names::{FAKE_ANNOTATION, NODE_ADDRESS, NODE_NAME};

/// For what etcd requires and nothing reads.
const UNUSED: &str = "http://localhost:2380";
/// Addresses of services. Nothing outside the node uses them.
const SERVICES: &str = "10.96.0.0/16";
/// Addresses of pods on the node, as in `config/bridge.conflist`.
const PODS: &str = "10.244.0.0/24";
/// Addresses of pods on fake nodes.
const FAKE_PODS: &str = "10.250.0.0/16";
/// Keeps the endpoints of the service `kubernetes`; the default.
const LEASES: &str = "--endpoint-reconciler-type=lease";

/// Listens on sockets in the cluster's folder only, so that clusters never compete for ports.
pub(crate) fn etcd(layout: &Layout) -> Vec<String> {
    let [client, peer] = [layout.etcd_socket(), layout.path("etcd-peer.sock")]
        .map(|socket| format!("unix://{}", socket.display()));
    vec![
        format!("--data-dir={}", layout.path("etcd").display()),
        // What a test stored need not survive the machine.
        "--unsafe-no-fsync".to_owned(),
        format!("--listen-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        // etcd requires a host and a port here. Only other members would use them.
        format!("--advertise-client-urls={UNUSED}"),
        format!("--initial-advertise-peer-urls={UNUSED}"),
        format!("--initial-cluster=default={UNUSED}"),
        "--log-level=warn".to_owned(),
    ]
}

pub(crate) fn apiserver(layout: &Layout, level: Level, port: u16, audit: bool) -> Vec<String> {
    let key = |name: &str| layout.path("keys").join(name).display().to_string();
    let mut flags = vec![
        format!("--etcd-servers=unix://{}", layout.etcd_socket().display()),
        format!("--secure-port={port}"),
        format!("--service-cluster-ip-range={SERVICES}"),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
        format!("--client-ca-file={}", key("ca.crt")),
        format!("--tls-cert-file={}", key("apiserver.crt")),
        format!("--tls-private-key-file={}", key("apiserver.key")),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", key("service-accounts.pub")),
        format!("--service-account-signing-key-file={}", key("service-accounts.key")),
        format!("--kubelet-client-certificate={}", key("apiserver-kubelet.crt")),
        format!("--kubelet-client-key={}", key("apiserver-kubelet.key")),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
    ];
    let address = match level {
        Level::Node => [
            "--bind-address=0.0.0.0".to_owned(),
            format!("--advertise-address={NODE_ADDRESS}"),
            LEASES.to_owned(),
        ],
        // An address on the loopback interface cannot be an endpoint of the service `kubernetes`.
        Level::Api | Level::Control => {
            ["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none"]
                .map(str::to_owned)
        }
    };
    flags.extend(address);
    if audit {
        flags.push(format!("--audit-policy-file={}", layout.path("config/audit.yaml").display()));
        flags.push(format!("--audit-log-path={}", layout.audit_log().display()));
    }
    flags
}

pub(crate) fn controller_manager(layout: &Layout) -> Vec<String> {
    let key = |name: &str| layout.path("keys").join(name).display().to_string();
    let mut flags = vec![
        format!("--service-account-private-key-file={}", key("service-accounts.key")),
        format!("--root-ca-file={}", key("ca.crt")),
        format!("--cluster-signing-cert-file={}", key("ca.crt")),
        format!("--cluster-signing-key-file={}", key("ca.key")),
        "--use-service-account-credentials=true".to_owned(),
        format!("--service-cluster-ip-range={SERVICES}"),
        // With the default limits, the default ServiceAccount appears 5 s later.
        "--kube-api-qps=300".to_owned(),
        "--kube-api-burst=400".to_owned(),
        "--node-monitor-period=1s".to_owned(),
    ];
    flags.extend(leaderless(layout, "controller-manager"));
    flags
}

pub(crate) fn scheduler(layout: &Layout) -> Vec<String> {
    let mut flags = leaderless(layout, "scheduler");
    flags.extend(["--kube-api-qps=300".to_owned(), "--kube-api-burst=400".to_owned()]);
    flags
}

/// One replica, and no port: its health shows in what it does.
fn leaderless(layout: &Layout, user: &str) -> Vec<String> {
    let kubeconfig = layout.kubeconfig(user).display().to_string();
    vec![
        format!("--kubeconfig={kubeconfig}"),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
    ]
}

pub(crate) fn kwok(layout: &Layout) -> Vec<String> {
    vec![
        format!("--config={}", layout.path("config/kwok.yaml").display()),
        format!("--kubeconfig={}", layout.kubeconfig("admin").display()),
        "--manage-all-nodes=false".to_owned(),
        format!("--manage-nodes-with-annotation-selector={FAKE_ANNOTATION}=fake"),
        "--node-lease-duration-seconds=40".to_owned(),
        format!("--cidr={FAKE_PODS}"),
        // No server for logs and exec of fake pods.
        "--node-port=0".to_owned(),
    ]
}

pub(crate) fn kubelet(layout: &Layout) -> Vec<String> {
    vec![
        format!("--config={}", layout.path("config/kubelet.yaml").display()),
        format!("--kubeconfig={}", layout.kubeconfig("kubelet").display()),
        format!("--hostname-override={NODE_NAME}"),
        format!("--node-ip={NODE_ADDRESS}"),
        "--root-dir=/var/lib/kubelet".to_owned(),
    ]
}

pub(crate) fn proxy(layout: &Layout) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", layout.kubeconfig("admin").display()),
        "--proxy-mode=nftables".to_owned(),
        format!("--cluster-cidr={PODS}"),
        format!("--hostname-override={NODE_NAME}"),
        format!("--bind-address={NODE_ADDRESS}"),
        // Limits of connection tracking are the machine's, not the namespace's.
        "--conntrack-max-per-core=0".to_owned(),
        "--conntrack-tcp-timeout-established=0".to_owned(),
        "--conntrack-tcp-timeout-close-wait=0".to_owned(),
    ]
}

pub(crate) fn containerd(layout: &Layout) -> Vec<String> {
    vec!["--config".to_owned(), layout.path("config/containerd.toml").display().to_string()]
}

pub(crate) fn coredns(layout: &Layout) -> Vec<String> {
    vec!["-conf".to_owned(), layout.path("config/Corefile").display().to_string()]
}
