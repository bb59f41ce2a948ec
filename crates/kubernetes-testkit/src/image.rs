//! Images that every node has.

pub use slipway_oci_image::Archive;

/// The sandbox of pods.
pub const PAUSE_IMAGE: &str = "registry.local/pause:1";
/// BusyBox with a shell, for containers of tests. It is on every node.
pub const BUSYBOX_IMAGE: &str = "registry.local/busybox:1";
