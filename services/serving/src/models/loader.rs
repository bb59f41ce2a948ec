//! From a target to a warm model: manifest, blobs, verification, session.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use slipway_api::proto::registry::registry_client::RegistryClient;
use slipway_api::proto::registry::{GetModelVersionRequest, ModelVersion};
use slipway_api::traffic::Target;
use slipway_artifact_store::ArtifactStore;
use slipway_domain::ensemble::{Definition, ENSEMBLE_FILE};
use slipway_domain::registry::new_artifact_path;
use slipway_inference::{
    Device, Environment, LoadOptions, Model, device_growth, device_readings, give_back, resident_bytes,
};
use slipway_service_kit::grpc::TracedChannel;
use tokio::sync::Semaphore;

use super::cache::{Cache, Manifest, ManifestFile};
use super::contract::Declarations;
use super::copy;
use super::folder::{LOCAL_PREFIX, MODEL_FILE};
use super::gate::GATE;
use super::labels::Labels;
use super::pbtxt::{self, CONFIG_FILE};
use super::served::{Beside, Memory, SETTINGS_FILE, Served, VersionSettings};
use crate::ensemble;

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
    options: LoadOptions,
    permits: Arc<Semaphore>,
    /// Where models lie that come from no registry.
    folder: Option<PathBuf>,
    limits: Limits,
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

/// Makes sessions of files.
#[derive(Clone)]
struct Opener {
    environment: Environment,
    /// Whether it makes one at a time.
    alone: bool,
}

/// What loading a version gives.
#[derive(Debug)]
pub(crate) enum Loaded {
    /// A model, warm.
    Model(Served),
    /// Other models, which have to be there and to fit.
    Ensemble(Arc<Definition>, Beside),
}

/// Why a version did not load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoadFailure {
    /// For people.
    pub reason: String,
    /// Whether loading it again may help.
    pub retry: Retry,
}

/// Whether, and how, a load that failed is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// Something was unreachable or short: the version is still loading.
    Soon,
    /// Registry or artifact store answered, and do not give the version: it has failed, until they do.
    Later,
    /// The version's own bytes cannot be served; they never change.
    Never,
}

impl LoadFailure {
    fn lasting(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), retry: Retry::Never }
    }

    fn withheld(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), retry: Retry::Later }
    }

    fn passing(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), retry: Retry::Soon }
    }
}

impl From<std::io::Error> for LoadFailure {
    fn from(error: std::io::Error) -> Self {
        // A full disk may have room later.
        Self::passing(format!("the cache directory: {error}"))
    }
}

impl From<slipway_artifact_store::Error> for LoadFailure {
    fn from(error: slipway_artifact_store::Error) -> Self {
        match error {
            // Downloads go to the cache directory and nowhere else.
            slipway_artifact_store::Error::File(error) => error.into(),
            error if error.is_transient() && !error.is_refusal() => Self::passing(error.to_string()),
            error => Self::withheld(error.to_string()),
        }
    }
}

impl Loader {
    /// A loader into `cache`.
    pub(crate) fn new(
        cache: Cache,
        registry: RegistryClient<TracedChannel>,
        artifacts: ArtifactStore,
        environment: Environment,
        options: LoadOptions,
        folder: Option<PathBuf>,
        limits: Limits,
    ) -> Self {
        Self {
            cache,
            registry,
            artifacts,
            opener: Opener { environment, alone: limits.memory_bytes.is_some() },
            options,
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

    /// Fetches what is missing, verifies all of it, loads it and warms it up.
    ///
    /// # Errors
    /// The reason, and whether trying again may help.
    pub(crate) async fn load(&self, model: &str, target: &Target) -> Result<Loaded, LoadFailure> {
        let _permit =
            self.permits.acquire().await.map_err(|_closed| LoadFailure::passing("shutting down"))?;
        if target.digest.starts_with(LOCAL_PREFIX) {
            return self.open_local(model, target).await;
        }
        let manifest = match self.cached_manifest(&target.digest).await {
            Some(manifest) => manifest,
            None => self.ask_registry(model, target).await?,
        };
        for file in manifest.needed() {
            self.ensure_blob(file).await?;
        }
        let (cache, digest) = (self.cache.clone(), target.digest.clone());
        let (opener, options) = (self.opener.clone(), self.options.clone());
        let opened = tokio::task::spawn_blocking(move || -> Result<Loaded, LoadFailure> {
            cache.keep_manifest(&digest, &manifest)?;
            let path: PathBuf = cache.lay_out(&digest, &manifest)?;
            if path.ends_with(ENSEMBLE_FILE) {
                read_ensemble(&path)
            } else {
                opener.open(&path, &options, Beside::default(), &Declarations::default())
            }
        });
        opened.await.map_err(|error| LoadFailure::lasting(format!("loading it ended badly: {error}")))?
    }

    async fn open_local(&self, model: &str, target: &Target) -> Result<Loaded, LoadFailure> {
        let folder =
            self.folder.clone().ok_or_else(|| LoadFailure::lasting("there is no folder of models"))?;
        let model = folder.join(model);
        let version = model.join(&target.version);
        let (opener, defaults) = (self.opener.clone(), self.options.clone());
        let (cache, digest) = (self.cache.clone(), target.digest.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let config = pbtxt::config(&model).map_err(LoadFailure::lasting)?.unwrap_or_default();
            let labels = Labels::read(&model, &config.settings.labels).map_err(LoadFailure::lasting)?;
            let formats = config.tensors.inputs.iter().filter(|input| input.format != 0);
            let formats = formats.map(|input| (input.declared.name.clone(), input.format)).collect();
            let batch_size = config.max_batch_size;
            let above = Beside { labels, batch_size, formats, ..Beside::default() };
            if !version.is_dir() {
                return Err(LoadFailure::lasting("its folder is not there, though version_policy names it"));
            }
            let path = version.join(ENSEMBLE_FILE);
            if path.is_file() {
                return read_ensemble(&path);
            }
            if let Some(definition) = config.ensemble {
                return Ok(Loaded::Ensemble(Arc::new(definition), beside(&path, above)?.1));
            }
            let options = pbtxt::options(&config, &defaults).map_err(LoadFailure::lasting)?;
            let place = copy::steady(&cache, &model, &version, &digest).map_err(LoadFailure::passing)?;
            opener.open(&place.folder.join(MODEL_FILE), &options, above, &config.tensors)
        });
        opened.await.map_err(|error| LoadFailure::lasting(format!("loading it ended badly: {error}")))?
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
        };
        let version =
            self.registry.clone().get_model_version(request).await.map_err(|status| refused(&status))?;
        let version = version.into_inner();
        if version.digest != target.digest {
            return Err(LoadFailure::withheld(format!(
                "version {} of {model} is {} in the registry; the traffic table wants {}",
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

impl Opener {
    /// Loads the model of a folder as its settings say, warms it up, and looks at what it took.
    fn open(
        &self,
        path: &Path,
        defaults: &LoadOptions,
        above: Beside,
        tensors: &Declarations,
    ) -> Result<Loaded, LoadFailure> {
        let (settings, beside) = beside(path, above)?;
        if std::fs::metadata(path).is_ok_and(|described| !described.is_file()) {
            return Err(LoadFailure::lasting("its model is no file"));
        }
        let options = settings
            .options(defaults)
            .map_err(|refused| LoadFailure::lasting(format!("its `{SETTINGS_FILE}`: {refused}")))?;
        let on_gpu = options.device != Device::Cpu;
        // Where the figure decides what is unloaded, it is of one version alone; on a GPU, too, where few are loaded.
        let _turn = (self.alone || on_gpu).then(|| GATE.load());
        let devices = on_gpu.then(device_readings).flatten();
        // What was freed before would be taken again, and the growth looked smaller than it is.
        give_back();
        let before = resident_bytes();
        let model = Model::load(&self.environment, path, options)
            .map_err(|error| LoadFailure::lasting(error.to_string()))?;
        give_back();
        let grown = before.zip(resident_bytes()).map_or(0, |(before, after)| after.saturating_sub(before));
        // It may have fallen back to the processor.
        let devices = devices.filter(|_| model.device() != Device::Cpu);
        let device_memory = devices.and_then(|before| device_growth(&before, &device_readings()?));
        let file = std::fs::metadata(path).map_or(0, |described| described.len());
        let told = tensors
            .fit(model.signature())
            .map_err(|refused| LoadFailure::lasting(format!("its `{CONFIG_FILE}`: {refused}")))?;
        beside.check(&told.0).map_err(LoadFailure::lasting)?;
        // A file of labels goes before the classes that the model names.
        let labels = beside.labels.or(Labels::of_model(model.classes()));
        let beside = Beside { labels, ..beside };
        let memory = Memory { bytes: grown.max(file), device: device_memory };
        Ok(Loaded::Model(Served::new(model, told, beside, memory)))
    }
}

fn read_ensemble(path: &Path) -> Result<Loaded, LoadFailure> {
    let definition = ensemble::read(path).map_err(LoadFailure::lasting)?;
    Ok(Loaded::Ensemble(Arc::new(definition), beside(path, Beside::default())?.1))
}

/// The settings beside a model, and what comes with it; `above` is what the folder above says.
fn beside(path: &Path, above: Beside) -> Result<(VersionSettings, Beside), LoadFailure> {
    let settings = VersionSettings::beside(path).map_err(LoadFailure::lasting)?;
    let folder = path.parent().unwrap_or(path);
    let own = Labels::read(folder, &settings.labels).map_err(LoadFailure::lasting)?;
    let beside = Beside { policy: settings.records.clone(), labels: own.or(above.labels), ..above };
    Ok((settings, beside))
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
