//! Names and addresses that several parts agree on.

/// Name of the real node at level `node`.
pub const NODE_NAME: &str = "slipway-node";
/// Its address on its own network, as in `scripts/node.sh`: where pods reach what runs on the node.
pub const NODE_ADDRESS: &str = "10.199.0.1";
/// Annotation of nodes that kwok plays; its value is `fake`.
pub(crate) const FAKE_ANNOTATION: &str = "kwok.x-k8s.io/node";
