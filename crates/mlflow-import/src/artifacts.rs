//! Files of runs and logged models: from the old server to the registry's proxy, streamed; what is there in
//! the same size stays.

use std::collections::{HashMap, HashSet};

use futures::StreamExt as _;
use reqwest::Url;
use serde_json::Value;

use crate::failure::Failure;
use crate::http::Server;
use crate::json::{integer, list, text};
use crate::report::Kind;
use crate::state::Import;
use crate::uri::proxy_path;

/// Files of one run or logged model.
const MAX_FILES: usize = 100_000;
/// Directories within directories.
const MAX_DEPTH: usize = 64;
const PROXY: &str = "api/2.0/mlflow-artifacts/artifacts";

/// Whose files they are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Owner<'id> {
    Run(&'id str),
    LoggedModel(&'id str),
}

impl<'id> Owner<'id> {
    /// Whose files a URI names: `runs:/<id>/…`, `models:/<id>`, or a place in the layout of MLflow's servers.
    pub(crate) fn of_uri(uri: &'id str) -> Option<Self> {
        let id = if let Some(rest) = uri.strip_prefix("runs:/") {
            rest.trim_start_matches('/').split('/').next()?
        } else if let Some(model) = uri.strip_prefix("models:/") {
            Some(model).filter(|model| model.starts_with("m-") && !model.contains(['/', '@']))?
        } else {
            let (before, _) = uri.split_once("/artifacts/").or_else(|| uri.split_once("/artifacts"))?;
            before.rsplit('/').next()?
        };
        Some(if id.starts_with("m-") { Self::LoggedModel(id) } else { Self::Run(id) })
    }

    /// Where a server has the files.
    async fn place(self, server: &Server) -> Result<String, Failure> {
        let (answer, pointer) = match self {
            Self::Run(id) => (server.get("runs/get", &[("run_id", id)]).await?, "/run/info/artifact_uri"),
            Self::LoggedModel(id) => {
                (server.get(&format!("logged-models/{id}"), &[]).await?, "/model/info/artifact_uri")
            }
        };
        Ok(text(&answer, pointer).to_owned())
    }

    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Run(id) | Self::LoggedModel(id) => id,
        }
    }

    pub(crate) fn name(&self) -> String {
        match self {
            Self::Run(id) => format!("of run {id}"),
            Self::LoggedModel(id) => format!("of logged model {id}"),
        }
    }
}

/// A way to a tree of files on a server.
#[derive(Debug, Clone, Copy)]
enum Tree<'at> {
    /// A directory of the artifact proxy.
    Proxy(&'at str),
    /// As MLflow's own pages get them: the server reads S3 or its disk itself.
    OfOwner(Owner<'at>),
}

impl<'at> Tree<'at> {
    fn of_source(uri: &'at str, owner: Owner<'at>) -> Self {
        proxy_path(uri).map_or(Self::OfOwner(owner), Self::Proxy)
    }

    fn listing(self, server: &Server, directory: &str) -> Url {
        match self {
            Self::Proxy(root) => server.url(PROXY, &[("path", &joined(root, directory))]),
            Self::OfOwner(Owner::Run(id)) => {
                server.url("api/2.0/mlflow/artifacts/list", &[("run_id", id), ("path", directory)])
            }
            Self::OfOwner(Owner::LoggedModel(id)) => server.url(
                &format!("api/2.0/mlflow/logged-models/{id}/artifacts/directories"),
                &[("artifact_directory_path", directory)],
            ),
        }
    }

    fn file(self, server: &Server, path: &str) -> Url {
        match self {
            Self::Proxy(root) => server.url(&format!("{PROXY}/{}", joined(root, path)), &[]),
            Self::OfOwner(Owner::Run(id)) => server.url("get-artifact", &[("run_id", id), ("path", path)]),
            Self::OfOwner(Owner::LoggedModel(id)) => server.url(
                &format!("ajax-api/2.0/mlflow/logged-models/{id}/artifacts/files"),
                &[("artifact_file_path", path)],
            ),
        }
    }
}

/// Where an owner's files are.
pub(crate) struct Place<'uri> {
    pub(crate) source_uri: &'uri str,
    /// Empty where nothing is written.
    pub(crate) target_uri: &'uri str,
    /// Nothing can be at the target yet.
    pub(crate) fresh: bool,
}

/// Copies all files of an owner; answers whether all are there. What is not is reported, and no version will
/// pin what is.
pub(crate) async fn copy(import: &Import, owner: Owner<'_>, place: &Place<'_>) -> bool {
    if import.options.skip_artifacts {
        return true;
    }
    match copy_tree(import, owner, place).await {
        Ok(true) => return true,
        Ok(false) => {}
        Err(failure) => {
            import.report.found(Kind::Artifacts, 1);
            import.report.failed(Kind::Artifacts, owner.name(), reason(owner, place.source_uri, &failure));
        }
    }
    import.mark_incomplete(owner.id());
    false
}

/// Whether the registry has all files that the owner has at the source, from this import or an earlier one.
pub(crate) async fn are_all_there(import: &Import, owner: Owner<'_>) -> Result<bool, Failure> {
    let source_uri = owner.place(&import.source).await?;
    let target_uri = match owner.place(&import.target).await {
        Err(failure) if failure.is_absent() => return Ok(false),
        uri => uri?,
    };
    let to = Tree::Proxy(proxy_path(&target_uri).unwrap_or_default());
    let there: HashSet<(String, u64)> = tree(&import.target, to).await?.into_iter().collect();
    let wanted = tree(&import.source, Tree::of_source(&source_uri, owner)).await?;
    Ok(wanted.iter().all(|file| there.contains(file)))
}

/// Why files cannot be listed, and what to do where that is not for the old server to mend.
fn reason(owner: Owner<'_>, source_uri: &str, failure: &Failure) -> String {
    if proxy_path(source_uri).is_some() || matches!(failure, Failure::Unreachable(_)) {
        return failure.to_string();
    }
    let option = match owner {
        Owner::Run(id) => format!("--run-id {id}"),
        Owner::LoggedModel(id) => format!("--artifact-uri models:/{id}"),
    };
    format!(
        "they lie at {source_uri}, where the MLflow server cannot read them: {failure}. Let it read them, or \
         download them where they can be read (`mlflow artifacts download {option}`), log them to the \
         registry under the same id, and leave files out with --no-artifacts"
    )
}

async fn copy_tree(import: &Import, owner: Owner<'_>, place: &Place<'_>) -> Result<bool, Failure> {
    let to = Tree::Proxy(proxy_path(place.target_uri).unwrap_or_default());
    let copy = Copy { import, owner, from: Tree::of_source(place.source_uri, owner), to };
    let files = tree(&import.source, copy.from).await?;
    import.report.found(Kind::Artifacts, files.len());
    let there: HashMap<String, u64> = if place.fresh || files.is_empty() || place.target_uri.is_empty() {
        HashMap::new()
    } else {
        tree(&import.target, to).await?.into_iter().collect()
    };
    let outcomes = futures::stream::iter(&files).map(|(path, size_bytes)| {
        let is_there = there.get(path) == Some(size_bytes);
        copy.file(path, *size_bytes, is_there)
    });
    let outcomes: Vec<bool> = outcomes.buffer_unordered(import.concurrency()).collect().await;
    Ok(outcomes.into_iter().all(|copied| copied))
}

/// The copy of one owner's files.
struct Copy<'at> {
    import: &'at Import,
    owner: Owner<'at>,
    from: Tree<'at>,
    to: Tree<'at>,
}

impl Copy<'_> {
    /// Copies a file, unless it is at the target in the same size; returns whether it is there now.
    async fn file(&self, path: &str, size_bytes: u64, is_there: bool) -> bool {
        let Import { source, target, report, options, .. } = self.import;
        if is_there {
            report.skipped(Kind::Artifacts);
            return true;
        }
        if options.dry_run {
            report.copied(Kind::Artifacts);
            report.copied_bytes(size_bytes);
            return true;
        }
        let (from, to) = (self.from.file(source, path), self.to.file(target, path));
        let why = match source.copy_file(&from, target, &to, size_bytes).await {
            Ok(copied) if copied == size_bytes => {
                report.copied(Kind::Artifacts);
                report.copied_bytes(copied);
                return true;
            }
            Ok(copied) => {
                format!("it has {copied} bytes, and {size_bytes} by the listing: it changes just now")
            }
            Err(failure) => failure.to_string(),
        };
        report.failed(Kind::Artifacts, format!("{path} {}", self.owner.name()), why);
        false
    }
}

/// All files of a tree, by their paths within it, with their lengths in bytes.
async fn tree(server: &Server, tree: Tree<'_>) -> Result<Vec<(String, u64)>, Failure> {
    let (mut files, mut directories) = (Vec::new(), vec![(String::new(), 0)]);
    while let Some((directory, depth)) = directories.pop() {
        let answer = server.get_url(&tree.listing(server, &directory)).await?;
        for entry in list(&answer, "/files") {
            let Some((path, size_bytes)) = child(&directory, entry) else { continue };
            match size_bytes {
                Some(size_bytes) => files.push((path, size_bytes)),
                None if depth < MAX_DEPTH => directories.push((path, depth + 1)),
                None => return Err(too_much(format!("{path} lies deeper than {MAX_DEPTH} directories"))),
            }
        }
        if files.len() > MAX_FILES {
            return Err(too_much(format!("there are more than {MAX_FILES} files")));
        }
    }
    files.sort();
    Ok(files)
}

fn too_much(message: String) -> Failure {
    Failure::Refused { status: 0, code: "TOO_MUCH".to_owned(), message }
}

/// Path and length of a line of a listing; a directory has no length. Servers give names or paths: the name
/// is what counts.
fn child(directory: &str, entry: &Value) -> Option<(String, Option<u64>)> {
    let name = text(entry, "/path").trim_end_matches('/').rsplit('/').next()?;
    if matches!(name, "" | "." | "..") {
        return None;
    }
    let is_directory = entry.get("is_dir").and_then(Value::as_bool).unwrap_or(false);
    let size_bytes = integer(entry, "/file_size").unwrap_or(0).unsigned_abs();
    Some((joined(directory, name), (!is_directory).then_some(size_bytes)))
}

fn joined(directory: &str, name: &str) -> String {
    match (directory.is_empty(), name.is_empty()) {
        (true, _) => name.to_owned(),
        (_, true) => directory.to_owned(),
        _ => format!("{directory}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn listings_with_names_and_with_paths_mean_the_same() {
        let file = json!({"path": "model.onnx", "is_dir": false, "file_size": "12"});
        assert_eq!(child("model/data", &file), Some(("model/data/model.onnx".into(), Some(12))));
        let path = json!({"path": "model/data/model.onnx", "file_size": 12});
        assert_eq!(child("model/data", &path), Some(("model/data/model.onnx".into(), Some(12))));
        assert_eq!(child("", &json!({"path": "plots", "is_dir": true})), Some(("plots".into(), None)));
        assert_eq!(child("a", &json!({"path": "..", "is_dir": true})), None);
    }

    #[test]
    fn the_owner_of_files_is_read_off_their_uri() {
        let id = |uri: &'static str| Owner::of_uri(uri).map(|owner| owner.name());
        let run = Some("of run r1".to_owned());
        for uri in ["runs:/r1/model", "mlflow-artifacts:/1/r1/artifacts/model", "s3://b/1/r1/artifacts"] {
            assert_eq!(id(uri), run, "{uri}");
        }
        for uri in ["models:/m-1", "mlflow-artifacts:/1/models/m-1/artifacts"] {
            assert_eq!(id(uri), Some("of logged model m-1".to_owned()), "{uri}");
        }
        for uri in ["models:/churn/1", "models:/m-churn@champion", "s3://bucket/model"] {
            assert_eq!(id(uri), None, "{uri}");
        }
    }

    #[test]
    fn files_outside_of_the_proxy_are_asked_for_by_their_owner() {
        let server = Server::target("http://old", 1, None).unwrap();
        let of = |uri: &'static str| Tree::of_source(uri, Owner::Run("r1"));
        let proxied = of("mlflow-artifacts:/1/r1/artifacts").file(&server, "a/b c");
        assert_eq!(proxied.path(), "/api/2.0/mlflow-artifacts/artifacts/1/r1/artifacts/a/b%20c");
        let other = of("s3://bucket/1/r1/artifacts");
        assert_eq!(other.file(&server, "a/b c").as_str(), "http://old/get-artifact?run_id=r1&path=a%2Fb+c");
        assert_eq!(other.listing(&server, "").path(), "/api/2.0/mlflow/artifacts/list");
    }
}
