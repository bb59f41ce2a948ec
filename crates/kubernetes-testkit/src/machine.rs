//! Which levels this machine can run, and why not the others.

use std::path::Path;

use crate::{Level, Packages, Programs};

/// Capabilities that namespaces with a network of their own need, by their bit in capabilities(7).
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
/// A hierarchy that kubelet requires, where cgroup v1 is mounted.
const HIERARCHY: &str = "/sys/fs/cgroup/memory/cgroup.procs";
/// Commands of `node.sh`: util-linux and iproute2.
const COMMANDS: [&str; 4] = ["unshare", "nsenter", "mount", "ip"];

/// What matters of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// The programs of Kubernetes are in the cache.
    pub built: bool,
    /// Go is installed.
    pub go: bool,
    /// The node's packages are on the machine or in the cache.
    pub packages: bool,
    /// apt-get is installed.
    pub apt_get: bool,
    /// We are root, with the capabilities for namespaces.
    pub privileged: bool,
    /// Hierarchies of cgroup v1 are mounted.
    pub cgroup_v1: bool,
    /// A command for namespaces that is not installed.
    pub absent_command: Option<&'static str>,
}

impl Machine {
    /// This machine.
    pub fn examine() -> Self {
        Self {
            built: Programs::are_built(),
            go: in_path("go"),
            packages: Packages::are_present(),
            apt_get: in_path("apt-get"),
            privileged: nix::unistd::geteuid().is_root() && has_capabilities(),
            cgroup_v1: Path::new(HIERARCHY).exists(),
            absent_command: COMMANDS.into_iter().find(|command| !in_path(command)),
        }
    }

    /// Why it cannot run a level, also after downloads and a build; `None` if it can.
    pub fn obstacle(&self, level: Level) -> Option<String> {
        if !self.built && !self.go {
            return Some("Go is not installed (https://go.dev/dl)".to_owned());
        }
        if level < Level::Node {
            return None;
        }
        if !self.privileged {
            return Some("it requires root with CAP_SYS_ADMIN and CAP_NET_ADMIN".to_owned());
        }
        if !self.cgroup_v1 {
            return Some("it requires cgroup v1 hierarchies in /sys/fs/cgroup".to_owned());
        }
        if let Some(command) = self.absent_command {
            return Some(format!("`{command}` is not installed"));
        }
        let reason =
            "containerd, runc, CNI plugins, nft and BusyBox are not installed, and there is no apt-get";
        (!self.packages && !self.apt_get).then(|| reason.to_owned())
    }

    /// Why it cannot run a level now, without downloads and a build.
    pub fn obstacle_now(&self, level: Level) -> Option<String> {
        let absent = !self.built || (level == Level::Node && !self.packages);
        let reason = "its programs are not in the cache: `cargo xtask cluster build` adds them";
        self.obstacle(level).or_else(|| absent.then(|| reason.to_owned()))
    }
}

/// Why this machine cannot run a level; `None` if it can, perhaps after a build.
pub fn missing(level: Level) -> Option<String> {
    Machine::examine().obstacle(level)
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(Into::into))
        .any(|folder| folder.join(program).is_file())
}

fn has_capabilities() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or_default();
    [CAP_NET_ADMIN, CAP_SYS_ADMIN].iter().all(|bit| effective & (1 << bit) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete() -> Machine {
        Machine {
            built: true,
            go: true,
            packages: true,
            apt_get: true,
            privileged: true,
            cgroup_v1: true,
            absent_command: None,
        }
    }

    #[test]
    fn a_complete_machine_runs_every_level() {
        for level in Level::ALL {
            assert_eq!(complete().obstacle_now(level), None);
        }
    }

    #[test]
    fn a_machine_without_go_runs_what_is_in_its_cache() {
        let without_go = Machine { go: false, ..complete() };
        assert_eq!(without_go.obstacle(Level::Api), None);
        let empty = Machine { built: false, ..without_go };
        assert!(empty.obstacle(Level::Api).unwrap().contains("Go is not installed"));
    }

    #[test]
    fn only_the_node_requires_root_and_packages() {
        let user = Machine { privileged: false, packages: false, apt_get: false, ..complete() };
        assert_eq!(user.obstacle(Level::Control), None);
        assert!(user.obstacle(Level::Node).unwrap().contains("root"));
        let root = Machine { privileged: true, ..user };
        assert!(root.obstacle(Level::Node).unwrap().contains("containerd"));
        assert_eq!(Machine { apt_get: true, ..root }.obstacle(Level::Node), None);
        let unified = Machine { packages: true, cgroup_v1: false, ..root };
        assert!(unified.obstacle(Level::Node).unwrap().contains("cgroup v1"));
    }

    #[test]
    fn without_a_build_the_reason_names_the_command_that_builds() {
        let unbuilt = Machine { built: false, ..complete() };
        assert_eq!(unbuilt.obstacle(Level::Api), None);
        assert!(unbuilt.obstacle_now(Level::Api).unwrap().contains("cargo xtask cluster build"));
        let unpacked = Machine { packages: false, ..complete() };
        assert_eq!(unpacked.obstacle_now(Level::Control), None);
        assert!(unpacked.obstacle_now(Level::Node).unwrap().contains("cargo xtask cluster build"));
    }
}
