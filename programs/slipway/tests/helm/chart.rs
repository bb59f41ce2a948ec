//! The chart, and what Helm makes of it.

use std::path::PathBuf;

use serde_json::Value;
use slipway_kubernetes_testkit::Helm;

/// Namespace of releases that are rendered only.
pub(crate) const NAMESPACE: &str = "ml";
/// Name of releases.
pub(crate) const RELEASE: &str = "slipway";
/// The files of values that tests render.
pub(crate) const VALUES: [&str; 3] = ["evaluation", "production", "namespace"];

/// Path of a file of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The text of a file of the repository.
pub(crate) fn text(path: &str) -> String {
    let path = repository(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Folder of the chart.
pub(crate) fn folder() -> String {
    repository("helm/slipway").display().to_string()
}

/// Path of a file of values.
pub(crate) fn values(name: &str) -> String {
    repository(&format!("programs/slipway/tests/helm/values/{name}.yaml")).display().to_string()
}

/// Whether generated files are to be written instead of compared.
pub(crate) fn writes() -> bool {
    std::env::var_os("SLIPWAY_WRITE_DOCS").is_some()
}

/// Compares a generated file of the repository with what it is to contain, or writes it.
pub(crate) fn check_generated(path: &str, content: &str) {
    if writes() {
        std::fs::write(repository(path), content).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(repository(path)).unwrap_or_default();
    let differing = committed.lines().zip(content.lines()).find(|(old, new)| old != new);
    assert!(committed == content, "{path} is not current; SLIPWAY_WRITE_DOCS=1 writes it: {differing:?}");
}

/// The objects that the chart makes of a file of values and further settings, or why it refuses them.
pub(crate) fn rendered(helm: &Helm, file: &str, further: &[&str]) -> Result<Vec<Value>, String> {
    let (folder, file) = (folder(), values(file));
    let mut arguments = vec!["template", RELEASE, &folder, "--namespace", NAMESPACE, "--values", &file];
    arguments.extend(further);
    let text = helm.run(&arguments).map_err(|error| error.to_string())?;
    Ok(parsed(&text))
}

/// The objects of a manifest.
pub(crate) fn parsed(manifest: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(manifest).unwrap();
    documents.into_iter().filter(|document| document.is_object()).collect()
}

/// Kind and name of an object, with its namespace if it is another one than the release's.
pub(crate) fn called(object: &Value) -> String {
    let of = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    match of("namespace") {
        "" | NAMESPACE => format!("{} {}", object["kind"].as_str().unwrap_or_default(), of("name")),
        other => format!("{} {other}/{}", object["kind"].as_str().unwrap_or_default(), of("name")),
    }
}
