//! The ports of the pods.

pub(crate) const METRICS_PORT: i32 = 8_002;
/// Names and numbers of the ports.
pub(crate) const PORTS: [(&str, i32); 3] = [("http", 8_000), ("grpc", 8_001), ("metrics", METRICS_PORT)];
/// Ports of serving where Envoy has those of REST and gRPC.
pub(crate) const BEHIND: [(&str, i32); 2] = [("own-http", 9_000), ("own-grpc", 9_001)];
