//! The rings of the registry: protocols over use cases over the store, and MLflow in its protocol alone.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::Finding;
use super::sources::Source;
use crate::build::root;

/// The registry, whose protocols stand over use cases over a store.
const REGISTRY: &str = "services/registry/src";
/// Its protocols.
const API: &str = "services/registry/src/api";
/// The protocol that is MLflow's.
const MLFLOW: &str = "services/registry/src/api/mlflow";

/// How a transaction is opened, or a connection taken.
const DATABASE: &[&str] = &[".change()", ".begin()", ".begin_with(", "Changes::new(", "registry.pool"];

/// The word itself, in any case.
const MLFLOW_WORD: &str = "mlflow";
/// MLflow's error codes.
const MLFLOW_CODES: &[&str] = &[
    "INVALID_PARAMETER_VALUE",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
    "RESOURCE_CONFLICT",
    "ENDPOINT_NOT_FOUND",
    "TEMPORARILY_UNAVAILABLE",
    "INTERNAL_ERROR",
    "PERMISSION_DENIED",
];

/// What may be written outside of the protocol: the URI scheme of artifacts, which rows contain; the stored
/// name of the webhook format and its column, which REST v1 shows too.
const NAMES: &[&str] = &["mlflow-artifacts", "mlflow_events", "Format::Mlflow"];

/// Files that may use MLflow's words, each with the reason.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("lib.rs", "says which protocols the service speaks, and hands MLflow's webhook format to the webhooks"),
    ("api/mod.rs", "mounts the protocol"),
    ("api/pages.rs", "tells the routes of the protocols apart"),
    ("api/home/mod.rs", "serves the page that MLflow's client links to"),
    ("api/access", "authorises the routes of every protocol"),
    ("api/rest/openapi.rs", "tells users where MLflow's API is"),
    ("api/rest/webhooks.rs", "shows webhooks that were created by MLflow's API"),
    ("access/authenticator.rs", "names the variable that holds a client's token"),
    ("store/tags.rs", "keys of tags, which rows and clients' programs contain"),
    ("store/search.rs", "documents the search semantics that clients rely on"),
    ("models/versions/source.rs", "source URIs of versions, with the texts that clients know"),
    ("models/versions/inspect.rs", "tells users how to log a model that can be served"),
];

/// Both rules. They are about lines of text, so they read the files themselves.
pub(crate) fn check(_: &[Source]) -> anyhow::Result<Vec<Finding>> {
    let mut broken = database(&root())?;
    broken.extend(mlflow(&root())?);
    Ok(broken)
}

/// Use cases open transactions and read; handlers call use cases.
fn database(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let mut broken = Vec::new();
    for (path, source) in sources(&root.join(API))? {
        for (number, line) in code_lines(&source) {
            if let Some(found) = DATABASE.iter().find(|found| line.contains(*found)) {
                let message = format!("`{found}` reaches the database from a handler; move it to a use case");
                broken.push(Finding { file: shown(root, &path), line: number, message });
            }
        }
    }
    Ok(broken)
}

/// MLflow's words and codes stand in its protocol.
fn mlflow(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let (registry, own) = (root.join(REGISTRY), root.join(MLFLOW));
    let mut broken = Vec::new();
    for (path, source) in sources(&registry)? {
        let relative = path.strip_prefix(&registry).unwrap_or(&path);
        if path.starts_with(&own) || EXCEPTIONS.iter().any(|(excepted, _)| relative.starts_with(excepted)) {
            continue;
        }
        for (number, line) in code_lines(&source) {
            if let Some(found) = foreign_word(line) {
                let message = format!("`{found}` belongs to {MLFLOW}");
                broken.push(Finding { file: shown(root, &path), line: number, message });
            }
        }
    }
    Ok(broken)
}

/// A word of MLflow's in a line.
fn foreign_word(line: &str) -> Option<&'static str> {
    let own_names = NAMES.iter().fold(line.to_owned(), |line, name| line.replace(name, ""));
    if own_names.to_lowercase().contains(MLFLOW_WORD) {
        return Some(MLFLOW_WORD);
    }
    MLFLOW_CODES.iter().find(|code| own_names.contains(**code)).copied()
}

/// The lines of a file before its unit tests, with their numbers, counted from 1.
fn code_lines(source: &str) -> impl Iterator<Item = (usize, &str)> {
    let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// The Rust files below a folder, by path.
fn sources(folder: &Path) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = std::fs::read_to_string(&path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                found.push((path, source));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn shown(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_keeps_its_rings_apart() {
        assert_eq!(database(&root()).unwrap(), Vec::<Finding>::new());
        assert_eq!(mlflow(&root()).unwrap(), Vec::<Finding>::new());
    }

    #[test]
    fn a_transaction_in_a_handler_and_a_foreign_word_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let handler = "async fn create() {\n    let mut change = registry.change().await?;\n}\n";
        write("services/registry/src/api/rest/models.rs", handler);
        let use_case =
            "async fn create() {\n    registry.change().await?;\n    let tag = \"mlflow.user\";\n}\n";
        write("services/registry/src/tracking/runs.rs", use_case);
        write("services/registry/src/api/mlflow/tags.rs", "const USER: &str = \"mlflow.user\";\n");
        write("services/registry/src/store/rows.rs", "const LIKE: &str = \"mlflow-artifacts:%\";\n");
        let reached = database(folder.path()).unwrap();
        assert_eq!(reached.len(), 1);
        assert!(
            reached[0].to_string().starts_with("services/registry/src/api/rest/models.rs:2: `.change()`")
        );
        let words = mlflow(folder.path()).unwrap();
        assert_eq!(words.len(), 1, "{words:?}");
        assert!(words[0].to_string().starts_with("services/registry/src/tracking/runs.rs:3: `mlflow`"));
    }

    #[test]
    fn every_exception_is_needed() {
        let root = root();
        for (path, _) in EXCEPTIONS {
            let excepted = root.join(REGISTRY).join(path);
            let files = if excepted.is_dir() {
                sources(&excepted).unwrap()
            } else {
                vec![(excepted.clone(), std::fs::read_to_string(&excepted).unwrap())]
            };
            let is_needed = files
                .iter()
                .any(|(_, source)| code_lines(source).any(|(_, line)| foreign_word(line).is_some()));
            assert!(is_needed, "{path} needs no exception any more");
        }
    }
}
