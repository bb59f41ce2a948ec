//! Images under the names of the official ones, made of the servers of the toolbox and BusyBox: no registry
//! can be reached in a test.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::json;
use slipway_oci_image::Archive;
use slipway_toolbox::Toolbox;

const POSTGRES_ENTRY: &str = include_str!("postgres.sh");
const USERS: &str = "root:x:0:0:root:/root:/bin/sh\npostgres:x:999:999::/var/lib/postgresql:/bin/sh\n";
/// Commands of BusyBox that entry points, health checks and Dockerfiles use.
const COMMANDS: [&str; 18] = [
    "cat", "chown", "cp", "echo", "env", "id", "ln", "ls", "mkdir", "printf", "rm", "sh", "sleep", "su",
    "test", "touch", "unzip", "wget",
];

/// An image, with its name in docker-compose.yml.
pub(super) struct StandIn {
    pub(super) reference: &'static str,
    pub(super) archive: Archive,
}

impl StandIn {
    /// Writes its archive into a folder.
    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        let name = self.reference.replace(['/', ':'], "-");
        let path = folder.join(format!("{name}.tar"));
        let file = std::fs::File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        self.archive.write(file)?;
        Ok(path)
    }
}

/// Writes the archives of all of them into a folder.
pub(super) fn write(folder: &Path, busybox: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let toolbox = Toolbox::from_env()?;
    let mut tell = |message: &str| eprintln!("    {message}");
    let postgres = toolbox.postgres(&mut tell)?.bin_dir;
    let nats = toolbox.nats_server(&mut tell)?;
    let weed = toolbox.weed(&mut tell)?;
    let images = [
        postgres_image(&postgres, busybox)?,
        server("docker.io/library/nats:2-alpine", "/usr/local/bin/nats-server", &nats, busybox)?,
        server("docker.io/chrislusf/seaweedfs:4.48", "/usr/bin/weed", &weed, busybox)?,
    ];
    images.iter().map(|image| image.write(folder)).collect()
}

/// BusyBox with its commands.
pub(super) fn base(reference: &'static str, busybox: &Path) -> anyhow::Result<StandIn> {
    let mut archive = Archive::new(reference);
    archive.base_files().file("/bin/busybox", busybox)?;
    for command in COMMANDS {
        archive.symlink(&format!("/bin/{command}"), "busybox");
    }
    archive.top().bytes("/etc/passwd", 0o644, USERS).bytes(
        "/etc/group",
        0o644,
        "root:x:0:\npostgres:x:999:\n",
    );
    Ok(StandIn { reference, archive })
}

fn server(reference: &'static str, path: &str, program: &Path, busybox: &Path) -> anyhow::Result<StandIn> {
    let mut image = base(reference, busybox)?;
    image.archive.file(path, program)?.shared_libraries()?;
    image.archive.configure(json!({ "Entrypoint": [path], "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"] }));
    Ok(image)
}

/// The programs of Postgres stay where they are on this machine: they find their libraries by it.
fn postgres_image(bin_dir: &Path, busybox: &Path) -> anyhow::Result<StandIn> {
    let mut image = base("docker.io/library/postgres:18", busybox)?;
    let package = bin_dir.ancestors().nth(3).context("Postgres lies in an unexpected folder")?;
    image.archive.folder(&package.to_string_lossy(), package)?.shared_libraries()?;
    image.archive.top().bytes("/usr/local/bin/entry-point", 0o755, POSTGRES_ENTRY);
    image.archive.configure(json!({
        "Entrypoint": ["/usr/local/bin/entry-point"],
        "Env": [format!("PATH={}:/usr/local/bin:/usr/bin:/bin", bin_dir.display())],
        "StopSignal": "SIGINT",
    }));
    Ok(image)
}
