//! The ONNX Runtime library: loaded once a process.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::logging::LogLevel;

use crate::Error;
use crate::raw::Library;
use crate::versions::{is_tested, tested};

/// ONNX Runtime allows one environment a process and no second one after it, so the first is kept.
static LOADED: Mutex<Option<Environment>> = Mutex::new(None);

/// The loaded library. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Environment {
    pub(crate) inner: ort::environment::Environment,
    path: PathBuf,
    version: String,
}

impl Environment {
    /// Loads the library from an absolute path; a second call gets the library that was loaded first.
    ///
    /// # Errors
    /// There is no such library, or its version is outside of [`TESTED`](crate::TESTED).
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::load_checked(path, false)
    }

    /// The same, whatever the version is. One that is outside of [`TESTED`](crate::TESTED) is logged.
    ///
    /// # Errors
    /// There is no such library, or it lacks the interface that is needed.
    pub fn load_untested(path: &Path) -> Result<Self, Error> {
        Self::load_checked(path, true)
    }

    fn load_checked(path: &Path, untested: bool) -> Result<Self, Error> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(environment) = &*loaded {
            return Ok(environment.clone());
        }
        let refuse = |reason: String| Error::Library { path: path.display().to_string(), reason };
        let library = Library::open(path).map_err(refuse)?;
        if !is_tested(&library.version) {
            let (path, version) = (path.display().to_string(), library.version.clone());
            if !untested {
                return Err(Error::Untested { path, version });
            }
            tracing::warn!(path, version, tested = tested(), "untested version of ONNX Runtime");
        }
        let builder = ort::init_from(path).map_err(|error| refuse(error.to_string()))?;
        let inner = builder
            .with_name("slipway")
            .with_telemetry(false)
            .with_logger(Arc::new(log))
            .build()
            .map_err(|error| refuse(error.to_string()))?;
        inner.set_log_level(LogLevel::Warning);
        let environment = Self { inner, path: path.to_owned(), version: library.version };
        *loaded = Some(environment.clone());
        Ok(environment)
    }

    /// Where the library is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its version, e.g. `1.23.2`.
    pub fn version(&self) -> &str {
        &self.version
    }
}

fn log(level: LogLevel, category: &str, _id: &str, location: &str, message: &str) {
    match level {
        LogLevel::Fatal | LogLevel::Error => tracing::warn!(category, location, "ONNX Runtime: {message}"),
        LogLevel::Warning => tracing::debug!(category, location, "ONNX Runtime: {message}"),
        LogLevel::Info | LogLevel::Verbose => tracing::trace!(category, location, "ONNX Runtime: {message}"),
    }
}
