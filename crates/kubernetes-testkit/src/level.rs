//! How much of Kubernetes runs.

use std::fmt::{Display, Formatter};
use std::str::FromStr;

/// How much of Kubernetes runs. Each level includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// etcd and kube-apiserver: objects can be stored and watched.
    Api,
    /// Adds kube-controller-manager, kube-scheduler and kwok: Jobs create pods, and pods run on fake nodes.
    Control,
    /// Adds kubelet, containerd and kube-proxy: pods run in containers. All processes of the cluster are in
    /// namespaces of their own.
    Node,
}

impl Level {
    /// All levels, the smallest first.
    pub const ALL: [Self; 3] = [Self::Api, Self::Control, Self::Node];

    /// The name on command lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Control => "control",
            Self::Node => "node",
        }
    }
}

impl Display for Level {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|level| level.name() == text);
        named.ok_or_else(|| format!("`{text}` is not a level: expected api, control or node"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_parsed_by_its_name() {
        for level in Level::ALL {
            assert_eq!(level.to_string().parse(), Ok(level));
        }
        let refused = "nodes".parse::<Level>().unwrap_err();
        assert_eq!(refused, "`nodes` is not a level: expected api, control or node");
    }

    #[test]
    fn each_level_includes_those_before_it() {
        assert!(Level::Api < Level::Control && Level::Control < Level::Node);
    }
}
