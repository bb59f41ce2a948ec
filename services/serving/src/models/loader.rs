//! From a target to a warm model: manifest, blobs, verification, session.

use std::path::PathBuf;
use std::sync::Arc;

use slipway_api::proto::registry::registry_client::RegistryClient;
use slipway_api::proto::registry::{GetModelVersionRequest, ModelVersion};
use slipway_api::traffic::Target;
use slipway_artifact_store::ArtifactStore;
use slipway_domain::ensemble::ENSEMBLE_FILE;
use slipway_domain::registry::new_artifact_path;
use slipway_grpc_client::TracedChannel;
use slipway_inference::{Environment, LoadOptions};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::cache::{Cache, Manifest, ManifestFile};
use super::contract::Declarations;
use super::copy;
use super::failure::LoadFailure;
use super::files::{LOCAL_PREFIX, MODEL_FILE};
use super::labels::Labels;
use super::meters::LoadMeters;
use super::opener::{Files, Loaded, Opener, Prepared, beside, prepare, read_ensemble};
use super::pbtxt;
use super::probe::{ProbeOptions, Prober};
use super::served::Beside;
use crate::source::RecordPolicy;

/// Versions loaded at the same time; more would only make each later.
const MAX_PARALLEL_LOADS: usize = 2;
/// Largest model file, so that a wrong manifest cannot fill the disk unnoticed.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024 * 1024;

/// Loads versions. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Loader {
    cache: Cache,
    registry: RegistryClient<TracedChannel>,
    artifacts: ArtifactStore,
    opener: Opener,
    prober: Prober,
    options: LoadOptions,
    records: RecordPolicy,
    permits: Arc<Semaphore>,
    /// Where models lie that come from no registry.
    folder: Option<PathBuf>,
    limits: Limits,
}

/// Where versions come from.
pub(crate) struct Origins {
    /// Names the files of a version.
    pub registry: RegistryClient<TracedChannel>,
    /// Has their bytes.
    pub artifacts: ArtifactStore,
    /// Where models lie that come from no registry.
    pub folder: Option<PathBuf>,
}

/// How versions are loaded.
pub(crate) struct LoadSettings {
    /// How they are run, where their own settings say nothing.
    pub options: LoadOptions,
    /// What is recorded of them; their own settings may leave out more.
    pub records: RecordPolicy,
    /// What they may take.
    pub limits: Limits,
    /// How they are loaded in a child process first.
    pub probe: ProbeOptions,
}

/// What versions may take.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    /// On disk, in bytes; `None`: everything is kept.
    pub cache_bytes: Option<u64>,
    /// In memory, in bytes; `None`: everything that a table names is loaded.
    pub memory_bytes: Option<u64>,
    /// Versions of a deployment that stay loaded after they left its traffic.
    pub keep_versions: usize,
}

impl Loader {
    /// A loader into `cache`.
    pub(crate) fn new(
        cache: Cache,
        environment: Environment,
        origins: Origins,
        settings: LoadSettings,
        meters: LoadMeters,
    ) -> Self {
        let Origins { registry, artifacts, folder } = origins;
        let LoadSettings { options, records, limits, probe } = settings;
        Self {
            prober: Prober::new(cache.clone(), &environment, probe, meters),
            cache,
            registry,
            artifacts,
            opener: Opener::new(environment, limits.memory_bytes.is_some()),
            options,
            records,
            permits: Arc::new(Semaphore::new(MAX_PARALLEL_LOADS)),
            folder,
            limits,
        }
    }

    /// The disk cache, where models come from the registry.
    pub(crate) const fn cache(&self) -> Option<&Cache> {
        if self.folder.is_some() { None } else { Some(&self.cache) }
    }

    /// What versions may take.
    pub(crate) const fn limits(&self) -> Limits {
        self.limits
    }

    /// The process is about to end, and not because of the loads in progress.
    pub(crate) fn forgive(&self) {
        self.cache.forget_loads();
    }

    /// Fetches what is missing, verifies all of it, loads it in a child process if that was not done before,
    /// loads it here and warms it up.
    ///
    /// # Errors
    /// The reason, and whether trying again may help.
    pub(crate) async fn load(&self, model: &str, target: &Target) -> Result<Loaded, LoadFailure> {
        let permit = self.permit().await?;
        let prepared = if target.digest.starts_with(LOCAL_PREFIX) {
            self.prepare_local(model, target).await?
        } else {
            self.prepare(model, target).await?
        };
        let mut prepared = match prepared {
            Prepared::Model(model) => model,
            Prepared::Ensemble(definition, beside) => return Ok(Loaded::Ensemble(definition, beside)),
        };
        // A child that takes long keeps none of the others from being loaded.
        drop(permit);
        let key = self.prober.key(&prepared.files, &prepared.options);
        prepared.options.empty =
            self.prober.admit(&key, prepared.path(), &prepared.options, prepared.files_bytes).await?;
        let _permit = self.permit().await?;
        let (opener, prober) = (self.opener.clone(), self.prober.clone());
        let opened = tokio::task::spawn_blocking(move || {
            prepared.check_unchanged()?;
            let _marker = prober.begin(&key);
            opener.open(*prepared)
        });
        opened.await.map_err(|error| LoadFailure::lasting(format!("loading it failed: {error}")))?
    }

    async fn permit(&self) -> Result<SemaphorePermit<'_>, LoadFailure> {
        self.permits.acquire().await.map_err(|_closed| LoadFailure::passing("shutting down"))
    }

    /// Brings the files of a version into the cache, and loads nothing.
    ///
    /// # Errors
    /// The reason, and whether trying again may help.
    pub(crate) async fn fetch(&self, model: &str, target: &Target) -> Result<(), LoadFailure> {
        let manifest = self.fetched(model, target).await?;
        let (cache, digest) = (self.cache.clone(), target.digest.clone());
        let kept = tokio::task::spawn_blocking(move || cache.keep_manifest(&digest, &manifest));
        Ok(kept.await.map_err(|error| LoadFailure::passing(error.to_string()))??)
    }

    /// The manifest of a version whose files are in the cache.
    async fn fetched(&self, model: &str, target: &Target) -> Result<Manifest, LoadFailure> {
        let manifest = match self.cached_manifest(&target.digest).await {
            Some(manifest) => manifest,
            None => self.ask_registry(model, target).await?,
        };
        for file in manifest.needed() {
            self.ensure_blob(file).await?;
        }
        Ok(manifest)
    }

    async fn prepare(&self, model: &str, target: &Target) -> Result<Prepared, LoadFailure> {
        let manifest = self.fetched(model, target).await?;
        let (cache, digest) = (self.cache.clone(), target.digest.clone());
        let defaults = self.options.clone();
        let above = Beside { policy: self.records.clone(), ..Beside::default() };
        let prepared = tokio::task::spawn_blocking(move || {
            cache.keep_manifest(&digest, &manifest)?;
            let path: PathBuf = cache.lay_out(&digest, &manifest)?;
            if path.ends_with(ENSEMBLE_FILE) {
                return read_ensemble(&path, above);
            }
            let bytes = manifest.needed().map(|file| file.size_bytes).sum();
            let files = Files { identity: digest, bytes, folder: None };
            prepare(&path, None, &defaults, above, Declarations::default(), files)
        });
        prepared.await.map_err(|error| LoadFailure::lasting(format!("loading it failed: {error}")))?
    }

    async fn prepare_local(&self, model: &str, target: &Target) -> Result<Prepared, LoadFailure> {
        let folder =
            self.folder.clone().ok_or_else(|| LoadFailure::lasting("there is no folder of models"))?;
        let model = folder.join(model);
        let version = model.join(&target.version);
        let defaults = self.options.clone();
        let (cache, digest) = (self.cache.clone(), target.digest.clone());
        let policy = self.records.clone();
        let prepared = tokio::task::spawn_blocking(move || {
            let config = pbtxt::config(&model).map_err(LoadFailure::lasting)?.unwrap_or_default();
            let labels = Labels::read(&model, &config.settings.labels).map_err(LoadFailure::lasting)?;
            let formats = config.tensors.inputs.iter().filter(|input| input.format != 0);
            let formats = formats.map(|input| (input.declared.name.clone(), input.format)).collect();
            let batch_size = config.max_batch_size;
            let above = Beside { policy, labels, batch_size, formats };
            if !version.is_dir() {
                return Err(LoadFailure::lasting("its folder is not there, though version_policy names it"));
            }
            let path = version.join(ENSEMBLE_FILE);
            if path.is_file() {
                return read_ensemble(&path, above);
            }
            if let Some(definition) = config.ensemble {
                return Ok(Prepared::Ensemble(Arc::new(definition), beside(&path, above)?.1));
            }
            let options = pbtxt::options(&config, &defaults).map_err(LoadFailure::lasting)?;
            let files = Files::of(&version)?;
            let place = copy::steady(&cache, &model, &version, &digest).map_err(LoadFailure::passing)?;
            prepare(&version.join(MODEL_FILE), Some(place), &options, above, config.tensors, files)
        });
        prepared.await.map_err(|error| LoadFailure::lasting(format!("loading it failed: {error}")))?
    }

    async fn cached_manifest(&self, digest: &str) -> Option<Manifest> {
        let (cache, digest) = (self.cache.clone(), digest.to_owned());
        tokio::task::spawn_blocking(move || cache.manifest(&digest)).await.ok().flatten()
    }

    async fn ask_registry(&self, model: &str, target: &Target) -> Result<Manifest, LoadFailure> {
        let request = GetModelVersionRequest {
            model: model.to_owned(),
            version: target.version.clone(),
            for_deployment: String::new(),
            digest: String::new(),
        };
        let version =
            self.registry.clone().get_model_version(request).await.map_err(|status| refused(&status))?;
        let version = version.into_inner();
        if version.digest != target.digest {
            return Err(LoadFailure::withheld(format!(
                "version {} of {model} is {} in the registry; the traffic table expects {}",
                target.version, version.digest, target.digest
            )));
        }
        if !version.servable {
            return Err(LoadFailure::withheld(format!("it cannot be served: {}", version.unservable_reason)));
        }
        manifest_of(version)
    }

    async fn ensure_blob(&self, file: &ManifestFile) -> Result<(), LoadFailure> {
        let (cache, sha256) = (self.cache.clone(), file.sha256.clone());
        let there = tokio::task::spawn_blocking(move || cache.verified(&sha256));
        if there.await.map_err(|error| LoadFailure::passing(error.to_string()))?? {
            return Ok(());
        }
        let stored = self.artifacts.size_bytes(&file.blob_key).await?;
        if stored != Some(file.size_bytes) {
            let found = stored.map_or_else(|| "is not there".to_owned(), |size| format!("has {size} bytes"));
            return Err(LoadFailure::withheld(format!(
                "its file `{}` {found} in the artifact store; expected {} bytes",
                file.path, file.size_bytes
            )));
        }
        let part = self.cache.part();
        self.artifacts.download_verified(&file.blob_key, &file.sha256, &part.path).await?;
        Ok(tokio::fs::rename(&part.path, self.cache.blob(&file.sha256)).await?)
    }
}

/// An ensemble need not hold a model of its own.
fn is_ensemble(version: &ModelVersion) -> bool {
    version.files.iter().any(|file| file.path == ENSEMBLE_FILE)
}

fn refused(status: &tonic::Status) -> LoadFailure {
    let reason = format!("the registry: {}", status.message());
    match status.code() {
        tonic::Code::NotFound
        | tonic::Code::InvalidArgument
        | tonic::Code::FailedPrecondition
        | tonic::Code::Unauthenticated
        | tonic::Code::PermissionDenied => LoadFailure::withheld(reason),
        _ => LoadFailure::passing(reason),
    }
}

fn manifest_of(version: ModelVersion) -> Result<Manifest, LoadFailure> {
    let main_path = if is_ensemble(&version) { ENSEMBLE_FILE.to_owned() } else { version.onnx_path.clone() };
    let digest = version.digest;
    let files: Vec<ManifestFile> = version
        .files
        .into_iter()
        .map(|file| ManifestFile {
            path: file.path,
            size_bytes: file.size_bytes,
            sha256: file.sha256,
            blob_key: file.blob_key,
        })
        .collect();
    let manifest = Manifest { onnx_path: main_path, files };
    if manifest.digest() != digest {
        return Err(LoadFailure::lasting(format!(
            "its files make the digest {}, not {digest}",
            manifest.digest()
        )));
    }
    for file in &manifest.files {
        let hex = file.sha256.len() == 64 && file.sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !hex || new_artifact_path(&file.path).is_err() {
            return Err(LoadFailure::lasting(format!(
                "its file `{}` has no usable name or digest",
                file.path
            )));
        }
        if file.size_bytes > MAX_FILE_BYTES {
            return Err(LoadFailure::lasting(format!(
                "its file `{}` has over {MAX_FILE_BYTES} bytes",
                file.path
            )));
        }
    }
    if !manifest.files.iter().any(|file| file.path == manifest.onnx_path) {
        return Err(LoadFailure::lasting(format!(
            "its model `{}` is not among its files",
            manifest.onnx_path
        )));
    }
    Ok(manifest)
}
