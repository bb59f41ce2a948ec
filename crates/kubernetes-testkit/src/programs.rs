//! The programs of Kubernetes, built from pinned Go modules.

use std::path::{Path, PathBuf};
use std::process::Command;

use slipway_toolbox::process;

use crate::{Error, Progress, command, once};

/// A folder of Go packages with its pins, each of which becomes one program.
struct Module {
    folder: &'static str,
    packages: &'static [&'static str],
    /// Further names of a program.
    links: &'static [&'static str],
    /// The module whose version the programs have.
    upstream: &'static str,
    /// Begins the name of their folder in the cache.
    prefix: &'static str,
}

const KUBERNETES: Module = Module {
    folder: concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/test-cluster"),
    packages: &["kubernetes", "pause"],
    links: &[
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-proxy",
        "kube-scheduler",
        "kubectl",
        "kubelet",
        "kwok",
    ],
    upstream: "k8s.io/kubernetes",
    prefix: "kubernetes",
};
/// A module of its own, since it requires other versions of packages than Kubernetes does.
const COREDNS: Module = Module {
    folder: concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/test-cluster/coredns"),
    packages: &["."],
    links: &[],
    upstream: "github.com/coredns/coredns",
    prefix: "coredns",
};
/// A module of its own, as well.
const OCI_REGISTRY: Module = Module {
    folder: concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/test-cluster/oci-registry"),
    packages: &["."],
    links: &[],
    upstream: "github.com/distribution/distribution/v3",
    prefix: "oci-registry",
};
/// A module of its own, as well.
const HELM: Module = Module {
    folder: concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/test-cluster/helm"),
    packages: &["."],
    links: &[],
    upstream: "helm.sh/helm/v4",
    prefix: "helm",
};
/// The build gives way to compilers that a person waits for.
const NICENESS: &str = "10";

/// The OCI registry, built if it is not in the cache, which takes about two minutes of one CPU.
///
/// # Errors
/// It is not in the cache and cannot be built.
pub(crate) fn oci_registry(progress: Progress<'_>) -> Result<PathBuf, Error> {
    Ok(OCI_REGISTRY.ensure(progress)?.join("bin").join(OCI_REGISTRY.prefix))
}

/// Helm, built if it is not in the cache, which takes about four minutes of one CPU.
///
/// # Errors
/// It is not in the cache and cannot be built.
pub(crate) fn helm(progress: Progress<'_>) -> Result<PathBuf, Error> {
    Ok(HELM.ensure(progress)?.join("bin").join(HELM.prefix))
}

/// The programs of Kubernetes, in the toolbox cache.
#[derive(Debug, Clone)]
pub struct Programs {
    kubernetes: PathBuf,
    coredns: PathBuf,
}

impl Programs {
    /// The programs; built if they are not in the cache, which takes Go, a Go module proxy, and about 20
    /// minutes of one CPU.
    ///
    /// # Errors
    /// They are not in the cache and cannot be built.
    pub fn ensure(progress: Progress<'_>) -> Result<Self, Error> {
        Ok(Self { kubernetes: KUBERNETES.ensure(progress)?, coredns: COREDNS.ensure(progress)? })
    }

    /// Whether the cache has them.
    pub fn are_built() -> bool {
        let is_built =
            |module: &Module| Pins::read(module).is_ok_and(|pins| once::exists(module.prefix, &pins.key()));
        [KUBERNETES, COREDNS].iter().all(is_built)
    }

    /// The folder of the programs that a person calls, for `PATH`.
    pub fn folder(&self) -> PathBuf {
        self.kubernetes.join("bin")
    }

    /// One program.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        let folder = if name == COREDNS.prefix { &self.coredns } else { &self.kubernetes };
        folder.join("bin").join(name)
    }
}

impl Module {
    /// Folder of its programs, which are built if they are not there.
    fn ensure(&self, progress: Progress<'_>) -> Result<PathBuf, Error> {
        let pins = Pins::read(self)?;
        once::ensure(self.prefix, &pins.key(), |part| {
            progress(&format!("building {} {} from Go modules", self.upstream, pins.version));
            self.build(&pins, &part.join("bin"))
        })
    }

    fn build(&self, pins: &Pins, bin: &Path) -> Result<(), Error> {
        std::fs::create_dir_all(bin).map_err(Error::file("cannot make", bin))?;
        let mut command = Command::new("nice");
        command.args(["-n", NICENESS, "go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false"]);
        command.arg("-ldflags").arg(self.link_flags(&pins.version));
        // With a folder as the target, each program gets the name of its package.
        command.arg("-o").arg(format!("{}/", bin.display()));
        command.args(self.packages.iter().map(|package| format!("./{package}")));
        command.env("CGO_ENABLED", "0").env("GOFLAGS", "").env("GOWORK", "off");
        // A build that no process waits for would go on for minutes.
        process::die_with_parent(&mut command);
        command::output(command.current_dir(self.folder), &format!("go build in {}", self.folder), None)?;
        for name in self.links {
            let link = bin.join(name);
            std::os::unix::fs::symlink(self.packages[0], &link).map_err(Error::file("cannot make", &link))?;
        }
        Ok(())
    }

    /// Sets the version that the programs report; kubectl and clients parse it, and Helm compares it with
    /// what charts require.
    fn link_flags(&self, version: &str) -> String {
        let mut flags = "-s -w".to_owned();
        if self.prefix == HELM.prefix {
            flags.push_str(&format!(" -X {}/internal/version.version={version}", self.upstream));
            return flags;
        }
        let numbers = version.trim_start_matches('v').split('.');
        let [major, minor] = [numbers.clone().next(), numbers.clone().nth(1)].map(Option::unwrap_or_default);
        for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
            for (name, value) in [("gitVersion", version), ("gitMajor", major), ("gitMinor", minor)] {
                flags.push_str(&format!(" -X {package}.{name}={value}"));
            }
        }
        flags
    }
}

/// What programs are made from.
struct Pins {
    version: String,
    /// Flags of the linker.
    flags: String,
    /// Paths within the module, in order, with their content.
    files: Vec<(String, Vec<u8>)>,
}

impl Pins {
    fn read(module: &Module) -> Result<Self, Error> {
        let root = Path::new(module.folder);
        let mut paths = vec!["go.mod".to_owned(), "go.sum".to_owned()];
        for package in module.packages {
            let folder = root.join(package);
            let entries = std::fs::read_dir(&folder).map_err(Error::file("cannot list", &folder))?;
            for entry in entries.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.ends_with(".go") {
                    paths.push(format!("{package}/{name}"));
                }
            }
        }
        paths.sort();
        let mut files = Vec::new();
        for path in paths {
            let file = root.join(&path);
            let content = std::fs::read(&file).map_err(Error::file("cannot read", &file))?;
            files.push((path, content));
        }
        let pins = files.iter().find(|(path, _)| path == "go.mod").map_or(&[][..], |(_, content)| content);
        let version = version_of(&String::from_utf8_lossy(pins), module.upstream);
        let version = version.ok_or_else(|| Error::File {
            action: "no version of the programs in",
            path: root.join("go.mod"),
            source: std::io::ErrorKind::InvalidData.into(),
        })?;
        let flags = module.link_flags(&version);
        Ok(Self { version, flags, files })
    }

    fn key(&self) -> String {
        let parts = self.files.iter().flat_map(|(path, content)| [path.as_bytes(), content.as_slice()]);
        once::key(parts.chain([self.flags.as_bytes(), std::env::consts::ARCH.as_bytes()]))
    }
}

/// The version that a go.mod requires of a module.
fn version_of(pins: &str, module: &str) -> Option<String> {
    pins.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word == "require");
        (words.next()? == module).then(|| words.next().map(str::to_owned))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_requirement() {
        let pins = "module m\n\nrequire (\n\tk8s.io/api v0.36.5\n\tk8s.io/kubernetes v1.36.5\n)\n";
        let kubernetes = KUBERNETES.upstream;
        assert_eq!(version_of(pins, kubernetes).as_deref(), Some("v1.36.5"));
        assert_eq!(version_of("require k8s.io/kubernetes v1.2.3", kubernetes).as_deref(), Some("v1.2.3"));
        assert_eq!(version_of("module k8s.io/kubernetes", kubernetes), None);
    }

    #[test]
    fn programs_report_the_pinned_version() {
        let flags = KUBERNETES.link_flags("v1.36.5");
        assert!(flags.contains("-X k8s.io/component-base/version.gitVersion=v1.36.5"), "{flags}");
        assert!(flags.contains("gitMajor=1 -X k8s.io/component-base/version.gitMinor=36"), "{flags}");
        let flags = HELM.link_flags("v4.2.4");
        assert_eq!(flags, "-s -w -X helm.sh/helm/v4/internal/version.version=v4.2.4");
    }

    #[test]
    fn the_key_changes_with_every_pin() {
        for module in [KUBERNETES, COREDNS, OCI_REGISTRY, HELM] {
            let read = || Pins::read(&module).unwrap();
            let mut changed = read();
            assert_eq!(changed.key(), read().key());
            assert!(changed.files.len() >= 3, "{}: go.mod, go.sum and a program", module.folder);
            for index in 0..changed.files.len() {
                changed.files[index].1.push(b'\n');
                assert_ne!(changed.key(), read().key(), "{}", changed.files[index].0);
                changed.files[index].1.pop();
            }
        }
    }
}
