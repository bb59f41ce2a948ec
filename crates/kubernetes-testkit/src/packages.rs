//! What a node needs beyond Kubernetes: containerd, runc, CNI plugins, nft, and BusyBox for an image. From
//! the machine, or from Debian's packages, which are unpacked into the toolbox cache and never installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, Progress, command, once};

/// Debian's packages with [`TOOLS`].
const PACKAGES: [&str; 5] =
    ["busybox-static", "containerd", "containernetworking-plugins", "nftables", "runc"];
/// Programs that a node uses, and where to look for those that are not in a `PATH`.
const TOOLS: [&str; 8] = [
    "busybox",
    "containerd",
    "containerd-shim-runc-v2",
    "ctr",
    "nft",
    "runc",
    "lib/cni/bridge",
    "lib/cni/host-local",
];
/// Folders of programs, below `/` or below a folder of unpacked packages.
const FOLDERS: [&str; 5] = ["usr/sbin", "usr/bin", "sbin", "bin", "usr"];
const PREFIX: &str = "node-packages";

/// The programs of a node.
#[derive(Debug, Clone)]
pub struct Packages {
    /// `/`, or where packages are unpacked.
    root: PathBuf,
}

impl Packages {
    /// The machine's own, or those in the cache, which apt-get downloads first if they are not there.
    ///
    /// # Errors
    /// They are on neither, and apt-get cannot download them.
    pub fn ensure(progress: Progress<'_>) -> Result<Self, Error> {
        if let Some(found) = Self::of_machine() {
            return Ok(found);
        }
        let folder = once::ensure(PREFIX, &key(), |part| {
            progress(&format!("downloading Debian packages: {}", PACKAGES.join(", ")));
            download(part)
        })?;
        Ok(Self { root: folder.join("root") })
    }

    /// Whether no download is needed.
    pub fn are_present() -> bool {
        Self::of_machine().is_some() || once::exists(PREFIX, &key())
    }

    fn of_machine() -> Option<Self> {
        let machine = Self { root: PathBuf::from("/") };
        TOOLS.iter().all(|tool| machine.find(tool).is_some()).then_some(machine)
    }

    fn find(&self, tool: &str) -> Option<PathBuf> {
        FOLDERS.iter().map(|folder| self.root.join(folder).join(tool)).find(|path| path.is_file())
    }

    /// The path of a program. A package that the machine has already was not downloaded.
    pub(crate) fn path(&self, tool: &str) -> PathBuf {
        let machine = Self { root: PathBuf::from("/") };
        self.find(tool).or_else(|| machine.find(tool)).unwrap_or_else(|| PathBuf::from(tool))
    }

    /// Folder of the CNI plugins.
    pub(crate) fn plugins(&self) -> PathBuf {
        self.path("lib/cni/bridge").parent().map(Path::to_path_buf).unwrap_or_default()
    }

    /// `PATH` for programs that start others of these.
    pub(crate) fn search_path(&self) -> String {
        let folders = ["usr/sbin", "usr/bin", "sbin", "bin"].map(|folder| self.root.join(folder));
        let own = folders.iter().map(|folder| folder.display().to_string());
        let machine = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(str::to_owned);
        own.chain(machine).collect::<Vec<_>>().join(":")
    }

    /// `LD_LIBRARY_PATH` for programs of unpacked packages.
    pub(crate) fn library_path(&self) -> Option<String> {
        if self.root == Path::new("/") {
            return None;
        }
        let libraries = format!("{}-linux-gnu", std::env::consts::ARCH);
        let folders = ["usr/lib", "lib"].map(|folder| self.root.join(folder).join(&libraries));
        Some(folders.map(|folder| folder.display().to_string()).join(":"))
    }
}

fn key() -> String {
    let release = std::fs::read("/etc/os-release").unwrap_or_default();
    let names = PACKAGES.join(" ");
    once::key([release.as_slice(), names.as_bytes(), std::env::consts::ARCH.as_bytes()])
}

/// Downloads the packages and what they depend on, as far as the machine lacks it, and unpacks them. Lists
/// and archives of apt-get are in the folder as well: nothing else on the machine changes.
fn download(folder: &Path) -> Result<(), Error> {
    let apt = folder.join("apt");
    for name in ["lists/partial", "cache/archives/partial"] {
        let name = apt.join(name);
        std::fs::create_dir_all(&name).map_err(Error::file("cannot make", &name))?;
    }
    let options = [
        format!("Dir::State::lists={}", apt.join("lists").display()),
        format!("Dir::Cache={}", apt.join("cache").display()),
        "APT::Sandbox::User=root".to_owned(),
        "Debug::NoLocking=true".to_owned(),
    ];
    let apt_get = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.arg("--quiet").arg("--yes").env("DEBIAN_FRONTEND", "noninteractive");
        for option in &options {
            command.args(["--option", option]);
        }
        run(command.args(arguments))
    };
    apt_get(&["update"])?;
    let install = ["install", "--download-only", "--no-install-recommends"];
    apt_get(&[&install[..], &PACKAGES[..]].concat())?;
    let archives = apt.join("cache/archives");
    let entries = std::fs::read_dir(&archives).map_err(Error::file("cannot list", &archives))?;
    let root = folder.join("root");
    for archive in entries.flatten().map(|entry| entry.path()) {
        if archive.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(&root))?;
        }
    }
    std::fs::remove_dir_all(&apt).map_err(Error::file("cannot delete", &apt))?;
    let unpacked = Packages { root };
    let absent: Vec<&str> = TOOLS.into_iter().filter(|tool| !unpacked.path(tool).is_file()).collect();
    if absent.is_empty() {
        return Ok(());
    }
    let reason = format!("they lack {}", absent.join(", "));
    Err(Error::Command { command: format!("apt-get install {}", PACKAGES.join(" ")), reason })
}

fn run(command: &mut Command) -> Result<(), Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let arguments = command.get_args().map(|argument| argument.to_string_lossy().into_owned());
    let words: Vec<String> = std::iter::once(program).chain(arguments).collect();
    command::output(command, &words.join(" "), None).map(drop)
}
