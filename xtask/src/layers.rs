//! The rings of the workspace: every arrow between crates points inward.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use cargo_metadata::{DependencyKind, MetadataCommand, Package};

use crate::build::root;

const BEGIN: &str = "<!-- layers: written by `cargo xtask layers --write` -->";
const END: &str = "<!-- /layers -->";

/// Rings from the inside out. A crate may use crates of its own ring or of rings before it. Services never
/// use each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ring {
    Domain,
    Crate,
    Service,
    Program,
    Xtask,
}

impl Ring {
    fn of(package: &Package) -> Option<Self> {
        Self::of_folder(package.manifest_path.parent()?.strip_prefix(root()).ok()?.as_str())
    }

    /// The ring of a folder, as a path from the workspace root: its first component, except for the domain.
    fn of_folder(folder: &str) -> Option<Self> {
        let mut parts = folder.split(['/', '\\']);
        Some(match (parts.next()?, parts.next()) {
            ("crates", Some("domain")) => Self::Domain,
            ("crates", _) => Self::Crate,
            ("services", _) => Self::Service,
            ("programs", _) => Self::Program,
            ("xtask", _) => Self::Xtask,
            _ => return None,
        })
    }

    /// Whether a crate of this ring may use a crate of `other`. Services speak to each other by gRPC and
    /// events only.
    fn may_use(self, other: Self) -> bool {
        match (self, other) {
            (Self::Service, Self::Service) => false,
            _ => other <= self,
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Domain => "domain",
            Self::Crate => "crates",
            Self::Service => "services",
            Self::Program => "programs",
            Self::Xtask => "xtask",
        }
    }
}

type Graph = BTreeMap<(Ring, String), Vec<String>>;

/// Checks the arrows, and the graph in docs/architecture.md or writes it there.
pub(crate) fn run(write: bool) -> anyhow::Result<()> {
    let (graph, upward) = read_graph()?;
    if !upward.is_empty() {
        bail!("these dependencies point upward or sideways:\n  {}", upward.join("\n  "));
    }
    let text = render(&graph);
    print!("{text}");
    let path = root().join("docs/architecture.md");
    let document =
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let (before, rest) = document.split_once(BEGIN).context("docs/architecture.md lacks the layers mark")?;
    let (_, after) = rest.split_once(END).context("docs/architecture.md lacks the closing layers mark")?;
    let wanted = format!("{before}{BEGIN}\n```text\n{text}```\n{END}{after}");
    if document == wanted {
        return Ok(());
    }
    if !write {
        bail!("the crate graph in docs/architecture.md is out of date: run `cargo xtask layers --write`");
    }
    std::fs::write(&path, wanted).with_context(|| format!("cannot write {}", path.display()))
}

fn read_graph() -> anyhow::Result<(Graph, Vec<String>)> {
    let metadata =
        MetadataCommand::new().current_dir(root()).no_deps().exec().context("cargo metadata failed")?;
    let rings: BTreeMap<String, Ring> = metadata
        .packages
        .iter()
        .filter_map(|package| Some((package.name.to_string(), Ring::of(package)?)))
        .collect();
    let mut graph = Graph::new();
    let mut upward = Vec::new();
    for package in &metadata.packages {
        let Some(&ring) = rings.get(package.name.as_str()) else {
            bail!("{} lies outside crates/, services/, programs/ and xtask/", package.manifest_path);
        };
        let mut arrows = Vec::new();
        for dependency in &package.dependencies {
            let Some(&other) = rings.get(&dependency.name) else { continue };
            // Tests may use more than the code they test: the testkit, or the agent's own code as a process.
            if dependency.kind == DependencyKind::Development {
                continue;
            }
            if !ring.may_use(other) {
                upward.push(format!("{} → {}", package.name, dependency.name));
            }
            arrows.push(short(&dependency.name).to_owned());
        }
        arrows.sort();
        arrows.dedup();
        graph.insert((ring, package.name.to_string()), arrows);
    }
    Ok((graph, upward))
}

fn short(name: &str) -> &str {
    name.strip_prefix("slipway-").unwrap_or(name)
}

fn render(graph: &Graph) -> String {
    let mut text = String::new();
    let mut last = None;
    for ((ring, name), arrows) in graph {
        if last != Some(*ring) {
            text.push_str(ring.title());
            text.push('\n');
            last = Some(*ring);
        }
        let line = if arrows.is_empty() {
            format!("  {}\n", short(name))
        } else {
            format!("  {:<20} → {}\n", short(name), arrows.join(", "))
        };
        text.push_str(&line);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_never_use_each_other() {
        assert!(!Ring::Service.may_use(Ring::Service));
        assert!(!Ring::Crate.may_use(Ring::Service));
        assert!(!Ring::Domain.may_use(Ring::Crate));
        assert!(Ring::Service.may_use(Ring::Crate));
        assert!(Ring::Program.may_use(Ring::Service));
        assert!(!Ring::Service.may_use(Ring::Program));
    }

    #[test]
    fn the_folder_is_the_ring() {
        for (folder, ring) in [
            ("crates/domain", Some(Ring::Domain)),
            ("crates/api", Some(Ring::Crate)),
            ("services/registry", Some(Ring::Service)),
            ("programs/agent", Some(Ring::Program)),
            ("xtask", Some(Ring::Xtask)),
            ("tools/thing", None),
            ("cratesx/domain", None),
        ] {
            assert_eq!(Ring::of_folder(folder), ring, "{folder}");
        }
    }

    #[test]
    fn the_workspace_has_no_upward_arrow() {
        let (graph, upward) = read_graph().unwrap();
        assert_eq!(upward, Vec::<String>::new());
        assert!(graph.keys().any(|(ring, _)| *ring == Ring::Domain));
    }
}
