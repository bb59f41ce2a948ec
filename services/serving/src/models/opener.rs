//! From a version's files to a session: what is looked at before, and what is looked at after.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use slipway_domain::ensemble::Definition;
use slipway_inference::{
    Checked, Device, Environment, LoadOptions, Model, device_growth, device_readings, give_back,
    resident_bytes,
};

use super::contract::Declarations;
use super::copy::Place;
use super::failure::LoadFailure;
use super::files::files_below;
use super::gate::GATE;
use super::labels::Labels;
use super::pbtxt::CONFIG_FILE;
use super::served::{Beside, Memory, SETTINGS_FILE, Served, VersionSettings};
use crate::models::ensemble;

/// Makes sessions of files.
#[derive(Clone)]
pub(super) struct Opener {
    environment: Environment,
    /// Whether it makes one at a time.
    alone: bool,
}

/// A version whose files are there.
pub(super) enum Prepared {
    /// A model, which may be loaded as far as its bytes tell.
    Model(Box<PreparedModel>),
    /// Other models.
    Ensemble(Arc<Definition>, Beside),
}

/// What loading a version gives.
#[derive(Debug)]
pub(crate) enum Loaded {
    /// A model, warm.
    Model(Served),
    /// Other models, which have to be there and to fit.
    Ensemble(Arc<Definition>, Beside),
}

/// See [`Prepared::Model`].
pub(super) struct PreparedModel {
    checked: Checked,
    /// How it is run.
    pub(super) options: LoadOptions,
    beside: Beside,
    tensors: Declarations,
    /// Names the contents of its files.
    pub(super) files: String,
    /// What its files take, in bytes.
    pub(super) files_bytes: u64,
    /// Where they lie, where others may write there.
    folder: Option<PathBuf>,
    /// Removes a copy that it is opened from.
    _place: Option<Place>,
}

/// The files of a version.
pub(super) struct Files {
    /// Names their contents.
    pub(super) identity: String,
    /// What they take, in bytes.
    pub(super) bytes: u64,
    /// Where they lie, where others may write there.
    pub(super) folder: Option<PathBuf>,
}

impl Files {
    /// The files of a folder. Unlike its time, a file's change time is what the system says, so that another
    /// file is never taken for it.
    ///
    /// # Errors
    /// They cannot be read.
    pub(super) fn of(folder: &Path) -> Result<Self, LoadFailure> {
        let mut paths = files_below(folder)?;
        paths.sort();
        let (mut identity, mut bytes) = (String::new(), 0_u64);
        for path in paths {
            let file = std::fs::metadata(&path)?;
            let changed = (file.ctime(), file.ctime_nsec());
            let (place, size) = ((file.dev(), file.ino()), file.len());
            identity.push_str(&format!("{}\0{place:?}\0{size}\0{changed:?}\n", path.display()));
            bytes = bytes.saturating_add(size);
        }
        Ok(Self { identity, bytes, folder: Some(folder.to_owned()) })
    }
}

impl PreparedModel {
    /// The model's file.
    pub(super) fn path(&self) -> &Path {
        self.checked.path()
    }

    /// Refuses files that were changed since they were looked at.
    ///
    /// # Errors
    /// They were.
    pub(super) fn check_unchanged(&self) -> Result<(), LoadFailure> {
        match &self.folder {
            Some(folder) if Files::of(folder)?.identity != self.files => {
                Err(LoadFailure::passing("its files have just changed"))
            }
            _ => Ok(()),
        }
    }
}

/// Looks at the bytes of a model and the settings next to it. `path` is where it was put; it is opened from a
/// copy at `place`, where there is one, which has no links.
pub(super) fn prepare(
    path: &Path,
    place: Option<Place>,
    defaults: &LoadOptions,
    above: Beside,
    tensors: Declarations,
    files: Files,
) -> Result<Prepared, LoadFailure> {
    let opened = place.as_ref().zip(path.file_name()).map(|(place, name)| place.folder.join(name));
    let (settings, beside) = beside(opened.as_deref().unwrap_or(path), above)?;
    if std::fs::metadata(path).is_ok_and(|described| !described.is_file()) {
        return Err(LoadFailure::lasting("its model is no file"));
    }
    let options = settings
        .options(defaults)
        .map_err(|refused| LoadFailure::lasting(format!("its `{SETTINGS_FILE}`: {refused}")))?;
    let mut checked = Checked::read(path).map_err(|error| LoadFailure::lasting(error.to_string()))?;
    if let Some(opened) = opened {
        checked = checked.copied_to(opened);
    }
    let Files { identity: files, bytes: files_bytes, folder } = files;
    let model =
        PreparedModel { checked, options, beside, tensors, files, files_bytes, folder, _place: place };
    Ok(Prepared::Model(Box::new(model)))
}

impl Opener {
    pub(super) const fn new(environment: Environment, alone: bool) -> Self {
        Self { environment, alone }
    }

    /// Loads a model as its settings say, warms it up, and looks at what it took.
    pub(super) fn open(&self, prepared: PreparedModel) -> Result<Loaded, LoadFailure> {
        let PreparedModel { checked, options, beside, tensors, .. } = &prepared;
        let on_gpu = options.device != Device::Cpu;
        // Where the figure decides what is unloaded, it is of one version alone; on a GPU, too, where few are
        // loaded.
        let _turn = (self.alone || on_gpu).then(|| GATE.load());
        let devices = on_gpu.then(device_readings).flatten();
        // What was freed before would be taken again, and the growth looked smaller than it is.
        give_back();
        let before = resident_bytes();
        let model = Model::load_checked(&self.environment, checked, options.clone())
            .map_err(|error| LoadFailure::lasting(error.to_string()))?;
        give_back();
        let grown = before.zip(resident_bytes()).map_or(0, |(before, after)| after.saturating_sub(before));
        // It may have fallen back to the processor.
        let devices = devices.filter(|_| model.device() != Device::Cpu);
        let device_memory = devices.and_then(|before| device_growth(&before, &device_readings()?));
        let file = std::fs::metadata(checked.path()).map_or(0, |described| described.len());
        let fitted = tensors
            .fit(model.signature())
            .map_err(|refused| LoadFailure::lasting(format!("its `{CONFIG_FILE}`: {refused}")))?;
        beside.check(&fitted.signature).map_err(LoadFailure::lasting)?;
        // A file of labels goes before the classes that the model names.
        let labels = beside.labels.clone().or(Labels::of_model(model.classes()));
        let beside = Beside { labels, ..beside.clone() };
        let memory = Memory { bytes: grown.max(file), device: device_memory };
        Ok(Loaded::Model(Served::new(model, fitted, beside, memory)))
    }
}

/// Reads the definition of an ensemble and the settings next to it; `above` is what the process says.
pub(super) fn read_ensemble(path: &Path, above: Beside) -> Result<Prepared, LoadFailure> {
    let definition = ensemble::read(path).map_err(LoadFailure::lasting)?;
    Ok(Prepared::Ensemble(Arc::new(definition), beside(path, above)?.1))
}

/// The settings next to a model, and what comes with it; `above` is what the folder above says.
pub(super) fn beside(path: &Path, above: Beside) -> Result<(VersionSettings, Beside), LoadFailure> {
    let settings = VersionSettings::beside(path).map_err(LoadFailure::lasting)?;
    let folder = path.parent().unwrap_or(path);
    let own = Labels::read(folder, &settings.labels).map_err(LoadFailure::lasting)?;
    let policy = above.policy.and(&settings.records);
    let beside = Beside { policy, labels: own.or(above.labels), ..above };
    Ok((settings, beside))
}
