//! Use case: create a model version. Its source is resolved, its files are inspected, pinned and named by
//! their digest.

use slipway_domain::registry::{FileDigest, manifest_digest};

use super::source::{Named, Source};
use super::tags::{MAX_REASON_CHARS, UNSERVABLE_TAG, unverified_tag};
use super::{inspect, profile, source};
use crate::access::caller::Caller;
use crate::access::links::RunLink;
use crate::clock::now_ms;
use crate::error::Error;
use crate::models::event_details::with_texts;
use crate::state::Registry;
use crate::store::artifacts::{self, Artifact, within};
use crate::store::facts::Facts;
use crate::store::model_versions::{self, ModelVersion, NewVersion, VersionFile};
use crate::store::signatures::{Signature, signature_put};
use crate::store::{Pair, logged_models, purge, registered_models};
use crate::trust::signing;

/// Files of one version.
const MAX_FILES: i64 = 100_000;
/// A source that changes while it is inspected is looked at again this often.
const MAX_INSPECTIONS: usize = 3;

/// A version as a client asks for it.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) run_id: Option<String>,
    pub(crate) model_id: Option<String>,
    pub(crate) run_link: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) tags: Vec<Pair>,
    /// The number it has to have; the next one where absent.
    pub(crate) version: Option<i32>,
}

/// Makes the next version of a model: its files are inspected, pinned and named by their digest.
///
/// # Errors
/// The model does not exist, the source is not valid or refers to something that the caller may not read, or
/// a file of it is not what it should be. Then nothing was made.
pub(crate) async fn create(
    registry: &Registry,
    caller: &Caller,
    request: &Request,
) -> Result<ModelVersion, Error> {
    let named = Named {
        source: &request.source,
        run_id: request.run_id.as_deref(),
        model_id: request.model_id.as_deref(),
    };
    for _ in 0..MAX_INSPECTIONS {
        let mut db = registry.pool.acquire().await?;
        let source = source::resolve(&mut db, caller, named).await?;
        if source.root.is_some() {
            // First what is cheap: a model that is not there needs no look at the files.
            registered_models::model_require(&mut db, &request.name).await?;
        }
        let files = files_of(&mut db, &source).await?;
        drop(db);
        let (mut facts, signatures) = match &source.root {
            Some(root) => (
                inspect::inspect(&registry.artifacts, root, &files, &registry.scan_policy).await?,
                signing::find(&registry.artifacts, root, &files).await?,
            ),
            None => {
                let why = if source.download_uri.starts_with("runs:/") {
                    "its source names a run that this registry does not have"
                } else {
                    "its source is outside this registry's artifact store"
                };
                (Facts::unservable(why), Vec::new())
            }
        };
        facts.profile_misfit = profile::misfit(registry, &source, &facts).await?;
        if let Some(version) = store(registry, request, &source, &files, (&facts, &signatures)).await? {
            return Ok(version);
        }
    }
    Err(Error::Conflict(
        "the files of the source changed while the version was created; try again when the upload is complete"
            .to_owned(),
    ))
}

async fn files_of(db: &mut sqlx::PgConnection, source: &Source) -> Result<Vec<Artifact>, Error> {
    let Some(root) = &source.root else { return Ok(Vec::new()) };
    if let Some((model_key, version)) = source.pinned {
        let files = model_versions::version_files(db, model_key, version).await?;
        return Ok(files.into_iter().map(VersionFile::into_artifact).collect());
    }
    let files = artifacts::artifact_tree(db, root, MAX_FILES + 1).await?;
    if i64::try_from(files.len()).is_ok_and(|count| count > MAX_FILES) {
        return Err(Error::invalid(
            "source",
            format!("Invalid value for parameter 'source': it has more than {MAX_FILES} files"),
        ));
    }
    Ok(files)
}

/// Keeps run and files of a source from being deleted until the transaction ends; whether the files are still
/// those that were inspected.
async fn hold(db: &mut sqlx::PgConnection, source: &Source, inspected: &[Artifact]) -> Result<bool, Error> {
    if let Some(run) = &source.run {
        purge::run_hold(db, run.run_id()).await?;
    }
    let Some(root) = &source.root else { return Ok(true) };
    match source.pinned {
        // The files of a version do not change.
        Some((model_key, version)) => model_versions::version_lock(db, model_key, version).await?,
        None => artifacts::artifact_lock(db, root, false).await?,
    }
    Ok(files_of(db, source).await? == inspected)
}

/// The client's tags, and those that tell why a version cannot be served or was not verified.
fn tags_of(given: &[Pair], unservable: Option<&str>, facts: &Facts) -> Vec<Pair> {
    let shortened = |reason: &str| reason.chars().take(MAX_REASON_CHARS).collect::<String>();
    let unservable = unservable.map(|reason| (UNSERVABLE_TAG.to_owned(), shortened(reason)));
    given.iter().cloned().chain(unservable).chain(unverified_tag(facts)).collect()
}

/// Stores the version unless the files are others by now.
async fn store(
    registry: &Registry,
    request: &Request,
    source: &Source,
    inspected: &[Artifact],
    (facts, signatures): (&Facts, &[Signature]),
) -> Result<Option<ModelVersion>, Error> {
    let now = now_ms();
    let mut change = registry.change().await?;
    if !hold(change.db(), source, inspected).await? {
        return Ok(None);
    }
    let files = manifest(source.root.as_deref().unwrap_or_default(), inspected);
    let digest = manifest_digest(&files.iter().map(digest_of).collect::<Vec<_>>());
    let reason = facts.unservable_reason.as_deref();
    // A version without files of its own is a reference, which no client expects to be served.
    let unservable = reason.filter(|_| !files.is_empty());
    let tags = tags_of(&request.tags, unservable, facts);
    let new = NewVersion {
        description: request.description.as_deref(),
        source: &source.source,
        download_uri: &source.download_uri,
        run: source.run.as_ref(),
        run_link: request.run_link.as_deref(),
        logged_model: source.logged_model.as_ref(),
        artifact_root: source.root.as_deref(),
        digest: &digest,
        servable: facts.unservable_reason.is_none(),
        facts,
        files: &files,
        tags: &tags,
        version: request.version,
    };
    let made = model_versions::version_create(change.db(), &request.name, &new, now).await?;
    let version = made.version;
    for signature in signatures {
        signature_put(change.db(), made.model_key, version, signature).await?;
    }
    if let Some(model) = &source.logged_model {
        logged_models::logged_model_add_version(change.db(), model, &request.name, version).await?;
    }
    let details = serde_json::json!({
        "model": request.name, "version": version.to_string(), "digest": digest,
            "run_id": source.run.as_ref().map(RunLink::run_id),
        "servable": new.servable, "unservable_reason": facts.unservable_reason,
        "scan": facts.scan.as_ref().map(|scan| scan.verdict),
    });
    let texts = [("source", Some(source.source.as_str())), ("description", request.description.as_deref())];
    let details = with_texts(details, &texts, &tags);
    change.tell("model-version", "created", format!("{}/{version}", request.name), details).await?;
    if let Some(reason) = reason {
        let details =
            serde_json::json!({"model": request.name, "version": version.to_string(), "reason": reason});
        change.tell("model-version", "unservable", format!("{}/{version}", request.name), details).await?;
        tracing::warn!(model = request.name, version, reason, "version registered that cannot be served");
    }
    change.commit().await?;
    if let Some(why) = &facts.profile_misfit {
        tracing::warn!(
            model = request.name,
            version,
            why,
            "version registered with a training profile that does not match it"
        );
    }
    Ok(Some(made))
}

fn manifest(root: &str, files: &[Artifact]) -> Vec<VersionFile> {
    let relative = |file: &Artifact| within(root, &file.path).to_owned();
    files
        .iter()
        .map(|file| VersionFile {
            path: relative(file),
            artifact_path: file.path.clone(),
            blob_key: file.blob_key.clone(),
            size_bytes: file.size_bytes,
            sha256: file.sha256.clone(),
        })
        .collect()
}

fn digest_of(file: &VersionFile) -> FileDigest {
    FileDigest {
        path: file.path.clone(),
        sha256: file.sha256.clone(),
        size_bytes: u64::try_from(file.size_bytes).unwrap_or_default(),
    }
}
