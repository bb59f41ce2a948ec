//! OCI image archives from files of this machine, without a registry and without a base image.

mod archive;
mod tar;

pub use archive::Archive;

/// The sandbox of pods.
pub const PAUSE_IMAGE: &str = "registry.local/pause:1";
/// BusyBox with a shell, for containers of tests. It is on every node.
pub const BUSYBOX_IMAGE: &str = "registry.local/busybox:1";
