//! The bill of materials of an image, in the format CycloneDX 1.6.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};
use serde_json::{Value, json};

use super::base::{Base, Package};
use super::catalog::Image;
use super::source::Source;
use super::wheels::Origin;
use crate::build::root;

/// Digests of crates, by name and version.
type Checksums = BTreeMap<(String, String), String>;

/// What the bill of an image lists, next to crates.
pub(crate) struct Contents<'image> {
    pub(crate) image: &'image Image,
    /// Packages of cargo whose programs the image has.
    pub(crate) programs: Vec<&'image str>,
    pub(crate) base: Option<&'image Base>,
    /// Python wheels whose libraries the image has.
    pub(crate) wheels: Vec<Origin>,
    pub(crate) source: &'image Source,
}

/// The document. The same contents make the same bytes.
pub(crate) fn document(contents: &Contents<'_>) -> anyhow::Result<String> {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .other_options(vec![
            "--locked".to_owned(),
            "--filter-platform".to_owned(),
            format!("{}-unknown-linux-gnu", std::env::consts::ARCH),
        ])
        .exec()
        .context("cargo metadata, which lists the crates of an image")?;
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let mut components = crates(&metadata, &contents.programs, &checksums(&lock))?;
    if let Some(base) = contents.base {
        components.extend(base.packages.iter().map(|package| debian(package, &base.suite)));
    }
    components.extend(contents.wheels.iter().map(wheel));
    let (source, title) = (contents.source, contents.image.title());
    let document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": source.created,
            "component": {
                "type": "container",
                "bom-ref": title,
                "name": title,
                "version": source.version,
                "description": contents.image.about,
                "licenses": [{ "expression": "Apache-2.0" }],
                "properties": [{ "name": "slipway:revision", "value": source.revision }],
            },
        },
        "components": components,
    });
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

/// What programs consist of: crates that they depend on, directly or not, without those that only build or
/// test them.
fn crates(metadata: &Metadata, programs: &[&str], checksums: &Checksums) -> anyhow::Result<Vec<Value>> {
    let resolve = metadata.resolve.as_ref().context("cargo metadata lists no dependencies")?;
    let nodes: BTreeMap<&PackageId, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let packages: BTreeMap<&PackageId, _> =
        metadata.packages.iter().map(|package| (&package.id, package)).collect();
    let is_program = |name: &str| programs.contains(&name);
    let mut waiting: Vec<&PackageId> = metadata
        .workspace_packages()
        .into_iter()
        .filter(|package| is_program(package.name.as_str()))
        .map(|package| &package.id)
        .collect();
    let mut found: BTreeSet<&PackageId> = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if !found.insert(id) {
            continue;
        }
        let Some(node) = nodes.get(id) else { continue };
        let is_normal = |kind: &cargo_metadata::DepKindInfo| kind.kind == DependencyKind::Normal;
        let normal = node.deps.iter().filter(|dependency| dependency.dep_kinds.iter().any(is_normal));
        waiting.extend(normal.map(|dependency| &dependency.pkg));
    }
    let mut listed: Vec<(String, String, Value)> = found
        .into_iter()
        .filter_map(|id| packages.get(id))
        .map(|package| {
            let (name, version) = (package.name.to_string(), package.version.to_string());
            let checksum = checksums.get(&(name.clone(), version.clone()));
            let component = component(
                &format!("pkg:cargo/{name}@{}", encoded(&version)),
                &name,
                &version,
                package.license.as_deref(),
                checksum.map(String::as_str),
            );
            (name, version, component)
        })
        .collect();
    listed.sort_by(|one, other| (&one.0, &one.1).cmp(&(&other.0, &other.1)));
    Ok(listed.into_iter().map(|(_, _, component)| component).collect())
}

fn debian(package: &Package, suite: &str) -> Value {
    let Package { name, version, architecture, sha256 } = package;
    let purl =
        format!("pkg:deb/debian/{}@{}?arch={architecture}&distro={suite}", encoded(name), encoded(version));
    component(&purl, name, version, None, Some(sha256))
}

fn wheel(wheel: &Origin) -> Value {
    let Origin { name, version, sha256 } = *wheel;
    component(&format!("pkg:pypi/{name}@{}", encoded(version)), name, version, None, Some(sha256))
}

fn component(purl: &str, name: &str, version: &str, license: Option<&str>, sha256: Option<&str>) -> Value {
    let mut component =
        json!({ "type": "library", "bom-ref": purl, "purl": purl, "name": name, "version": version });
    if let Some(license) = license {
        // An older way to write `OR`.
        let expression = license.replace('/', " OR ");
        component["licenses"] = json!([{ "expression": expression }]);
    }
    if let Some(sha256) = sha256 {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": sha256 }]);
    }
    component
}

/// A part of a package URL.
fn encoded(text: &str) -> String {
    text.replace('%', "%25").replace('+', "%2B").replace('~', "%7E").replace(':', "%3A")
}

/// The digests in Cargo.lock.
fn checksums(lock: &str) -> Checksums {
    let mut found = Checksums::new();
    let (mut name, mut version) = (String::new(), String::new());
    for line in lock.lines() {
        let Some((key, value)) = line.split_once(" = ") else { continue };
        let value = value.trim_matches('"').to_owned();
        match key {
            "name" => name = value,
            "version" => version = value,
            "checksum" => {
                found.insert((name.clone(), version.clone()), value);
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_of_crates_are_those_of_the_lock() {
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nchecksum = \"ab\"\n\n\
                    [[package]]\nname = \"own\"\nversion = \"0.1.0\"\ndependencies = [\n \"a\",\n]\n";
        let expected = [(("a".to_owned(), "1.0.0".to_owned()), "ab".to_owned())];
        assert_eq!(checksums(lock), Checksums::from(expected));
    }

    #[test]
    fn package_urls_are_encoded() {
        let package = Package {
            name: "libstdc++6".to_owned(),
            version: "12.2.0-14+deb12u1".to_owned(),
            architecture: "amd64".to_owned(),
            sha256: "ab".to_owned(),
        };
        let purl = "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?arch=amd64&distro=bookworm";
        assert_eq!(debian(&package, "bookworm")["purl"], purl);
    }
}
