//! The layer below all services: glibc, libstdc++, certificates of authorities and time zones, from Debian
//! packages that base.lock pins. It has no shell.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};
use slipway_oci_image::{Compression, Layer, SealedLayer, architecture};

use super::catalog::{DATA, USER};

const LOCK: &str = include_str!("base.lock");
const LOCK_PATH: &str = "xtask/src/images/base.lock";
const CERTIFICATES: &str = "usr/share/ca-certificates";
/// What of the packages is in the layer: the beginnings of paths.
const KEPT: [&str; 8] = [
    "etc/debian_version",
    "etc/os-release",
    "lib/",
    "lib64/",
    "usr/lib/",
    "usr/share/common-licenses/",
    "usr/share/doc/",
    "usr/share/zoneinfo/",
];
/// What is left out of it: conversions of character sets, and time zones with leap seconds or twice.
const LEFT_OUT: [&str; 5] =
    ["/gconv/", "usr/lib/audit/", "usr/lib/tmpfiles.d/", "zoneinfo/posix/", "zoneinfo/right/"];

/// A pinned package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) architecture: String,
    pub(crate) sha256: String,
}

/// The layer and what is in it.
#[derive(Debug, Clone)]
pub(crate) struct Base {
    pub(crate) layer: Arc<SealedLayer>,
    pub(crate) packages: Vec<Package>,
    /// Name of Debian's release.
    pub(crate) suite: String,
}

/// base.lock.
#[derive(Debug, PartialEq, Eq)]
struct Lock {
    /// A time at which Debian's mirrors had all packages, as snapshot.debian.org names it.
    snapshot: String,
    suite: String,
    packages: Vec<Package>,
}

/// Makes the layer. Packages that were downloaded before are in the cache of the toolbox.
pub(crate) fn layer() -> anyhow::Result<Base> {
    let lock = parse(LOCK)?;
    let folder = unpacked(&lock)?;
    let mut layer = Layer::default();
    system_files(&mut layer);
    for package in &lock.packages {
        let root = folder.join(&package.name);
        add(&mut layer, &root, &root)?;
        let control = std::fs::read(folder.join(format!("{}.control", package.name)))
            .with_context(|| format!("cannot read the control file of {}", package.name))?;
        // Where scanners of images look for packages of images without dpkg.
        layer.bytes(&format!("var/lib/dpkg/status.d/{}", package.name), 0o644, control);
    }
    layer.bytes("etc/ssl/certs/ca-certificates.crt", 0o644, certificates(&folder.join("ca-certificates"))?);
    let layer = Arc::new(layer.seal(Compression::Gzip).context("cannot make the base layer")?);
    Ok(Base { layer, packages: lock.packages, suite: lock.suite })
}

/// The user, and folders that a service may write to.
fn system_files(layer: &mut Layer) {
    let user = format!(
        "root:x:0:0:root:/root:/sbin/nologin\nslipway:x:{USER}:{USER}:Slipway:{DATA}:/sbin/nologin\n"
    );
    layer.bytes("etc/passwd", 0o644, user);
    layer.bytes("etc/group", 0o644, format!("root:x:0:\nslipway:x:{USER}:\n"));
    layer.bytes("etc/nsswitch.conf", 0o644, "passwd: files\ngroup: files\nhosts: files dns\n");
    layer.owned_folder("tmp", 0o1777, 0).owned_folder("var/tmp", 0o1777, 0);
    layer.owned_folder(DATA, 0o750, USER);
    // Volumes that are mounted here belong to the user as well.
    for service in ["launcher", "serving"] {
        layer.owned_folder(&format!("{DATA}/{service}"), 0o750, USER);
    }
}

/// Adds what is kept of a package, with its links as they are.
fn add(layer: &mut Layer, root: &Path, folder: &Path) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let source = entry?.path();
        let path = source.strip_prefix(root)?.to_str().context("a path in a package is not UTF-8")?;
        let facts = source.symlink_metadata()?;
        if facts.is_dir() {
            add(layer, root, &source)?;
        } else if !is_kept(path) {
        } else if facts.is_symlink() {
            layer.symlink(path, &std::fs::read_link(&source)?.to_string_lossy());
        } else {
            layer.file(path, &source)?;
        }
    }
    Ok(())
}

fn is_kept(path: &str) -> bool {
    let is_documentation = path.starts_with("usr/share/doc/");
    // A package whose documentation is that of another one has a link.
    let is_licence = path.ends_with("/copyright") || path.matches('/').count() == 3;
    KEPT.iter().any(|start| path.starts_with(start))
        && !LEFT_OUT.iter().any(|part| path.contains(part))
        && (!is_documentation || is_licence)
}

/// All certificates in one file, as `update-ca-certificates` makes it.
fn certificates(package: &Path) -> anyhow::Result<Vec<u8>> {
    let mut files = Vec::new();
    list(&package.join(CERTIFICATES), &mut files)?;
    files.sort();
    let mut bundle = Vec::new();
    for file in files {
        bundle.extend(std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
        if !bundle.ends_with(b"\n") {
            bundle.push(b'\n');
        }
    }
    anyhow::ensure!(!bundle.is_empty(), "the package ca-certificates has no certificates");
    Ok(bundle)
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "crt") {
            files.push(path);
        }
    }
    Ok(())
}

fn parse(text: &str) -> anyhow::Result<Lock> {
    let mut lock = Lock { snapshot: String::new(), suite: String::new(), packages: Vec::new() };
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["snapshot", time] => (*time).clone_into(&mut lock.snapshot),
            ["suite", suite] => (*suite).clone_into(&mut lock.suite),
            [name, version, of, sha256] if ["all", architecture()].contains(of) => {
                let owned = |text: &&str| (*text).to_owned();
                let [name, version, architecture, sha256] = [name, version, of, sha256].map(owned);
                lock.packages.push(Package { name, version, architecture, sha256 });
            }
            // Of another architecture.
            [_, _, _, _] => {}
            _ => bail!("{LOCK_PATH}: `{line}` is not `package version architecture sha256`"),
        }
    }
    if !lock.packages.iter().any(|package| package.name == "libc6") {
        bail!("{LOCK_PATH} has no packages for {}: add their versions and digests", architecture());
    }
    Ok(lock)
}

/// A folder with a folder for each unpacked package.
fn unpacked(lock: &Lock) -> anyhow::Result<PathBuf> {
    let key = hex::encode(&Sha256::digest(format!("{lock:?}"))[..6]);
    let cache = slipway_toolbox::cache_dir()?;
    slipway_toolbox::fill_once(&cache, "image-packages", &key, Path::new("complete"), |part| {
        download(lock, part).map_err(Failed)?;
        std::fs::write(part.join("complete"), "")
            .context("cannot mark the packages as complete")
            .map_err(Failed)
    })
    .map_err(|Failed(error)| error)
}

/// An error of any kind, where the toolbox expects one that its own can become.
struct Failed(anyhow::Error);

impl From<slipway_toolbox::Error> for Failed {
    fn from(error: slipway_toolbox::Error) -> Self {
        Self(error.into())
    }
}

/// Downloads the packages with apt-get, whose lists and archives are in the folder as well: nothing else on
/// the machine changes.
fn download(lock: &Lock, folder: &Path) -> anyhow::Result<()> {
    let apt = folder.join("apt");
    for name in ["lists/partial", "cache/archives/partial", "archives"] {
        std::fs::create_dir_all(apt.join(name)).context("cannot make a folder for packages")?;
    }
    let apt_get = |arguments: &[String]| {
        let mut command = Command::new("apt-get");
        command.args(["--quiet", "--option", "APT::Sandbox::User=root", "--option"]);
        command.arg(format!("Dir::State::lists={}", apt.join("lists").display())).arg("--option");
        command.arg(format!("Dir::Cache={}", apt.join("cache").display()));
        output(command.args(arguments).current_dir(apt.join("archives")))
    };
    apt_get(&["update".to_owned()]).context("the base layer is made of Debian packages")?;
    for package in &lock.packages {
        let Package { name, version, .. } = package;
        apt_get(&["download".to_owned(), format!("{name}={version}")]).with_context(|| {
            format!(
                "the mirror of this machine does not have {name} {version}, which {LOCK_PATH} pins: use \
                 http://snapshot.debian.org/archive/debian/{} as a mirror, or pin the packages of today",
                lock.snapshot
            )
        })?;
        // apt-get writes a colon in a version as %3a.
        let version = version.replace(':', "%3a");
        let archive = apt.join("archives").join(format!("{name}_{version}_{}.deb", package.architecture));
        verify(package, &archive)?;
        output(Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(folder.join(name)))?;
        let control = output(Command::new("dpkg-deb").arg("--field").arg(&archive))?;
        std::fs::write(folder.join(format!("{name}.control")), control)
            .context("cannot write a control file")?;
    }
    std::fs::remove_dir_all(&apt).context("cannot remove the archives of packages")
}

fn verify(package: &Package, archive: &Path) -> anyhow::Result<()> {
    let bytes = std::fs::read(archive).with_context(|| format!("cannot read {}", archive.display()))?;
    let found = hex::encode(Sha256::digest(&bytes));
    if found != package.sha256 {
        bail!(
            "{} {} has SHA-256 {found}, and {LOCK_PATH} expects {}: it is not the pinned package",
            package.name,
            package.version,
            package.sha256
        );
    }
    Ok(())
}

fn output(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output =
        command.output().with_context(|| format!("cannot start {program}; on Debian it is part of apt"))?;
    if !output.status.success() {
        bail!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_pins_every_package_by_version_and_digest() {
        let lock = parse(LOCK).unwrap();
        for package in &lock.packages {
            assert!(package.sha256.len() == 64 && hex::decode(&package.sha256).is_ok(), "{package:?}");
        }
        let wrong = LOCK.replace("libc6 ", "libc6 extra ");
        assert!(parse(&wrong).unwrap_err().to_string().contains("libc6 extra"), "{wrong}");
        let error = parse("snapshot x\n").unwrap_err().to_string();
        assert!(error.contains(architecture()), "{error}");
    }

    #[test]
    fn another_file_under_the_name_of_a_package_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("libc6.deb");
        std::fs::write(&archive, "other").unwrap();
        let lock = parse(LOCK).unwrap();
        let package = lock.packages.iter().find(|package| package.name == "libc6").unwrap();
        let error = verify(package, &archive).unwrap_err().to_string();
        assert!(error.contains(&package.sha256) && error.contains("libc6 2."), "{error}");
    }

    #[test]
    fn libraries_and_licences_are_kept_and_programs_are_not() {
        for path in
            ["lib/x86_64-linux-gnu/libc.so.6", "usr/share/doc/libc6/copyright", "usr/share/doc/libgcc-s1"]
        {
            assert!(is_kept(path), "{path}");
        }
        for path in [
            "usr/sbin/update-ca-certificates",
            "usr/share/doc/libc6/changelog.gz",
            "usr/share/zoneinfo/right/UTC",
        ] {
            assert!(!is_kept(path), "{path}");
        }
    }
}
