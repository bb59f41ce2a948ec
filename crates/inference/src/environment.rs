//! The ONNX Runtime library: loaded once a process.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::logging::LogLevel;

use crate::Error;

/// ONNX Runtime allows one environment a process and no second one after it, so the first is kept.
static LOADED: Mutex<Option<Environment>> = Mutex::new(None);

/// The loaded library. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Environment {
    pub(crate) inner: ort::environment::Environment,
    path: PathBuf,
}

impl Environment {
    /// Loads the library from an absolute path; a second call gets the library that was loaded first.
    ///
    /// # Errors
    /// There is no such library, or it is too old.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(environment) = &*loaded {
            return Ok(environment.clone());
        }
        let refuse = |reason: String| Error::Library { path: path.display().to_string(), reason };
        let builder = ort::init_from(path).map_err(|error| refuse(error.to_string()))?;
        let inner = builder
            .with_name("slipway")
            .with_telemetry(false)
            .with_logger(Arc::new(log))
            .build()
            .map_err(|error| refuse(error.to_string()))?;
        inner.set_log_level(LogLevel::Warning);
        let environment = Self { inner, path: path.to_owned() };
        *loaded = Some(environment.clone());
        Ok(environment)
    }

    /// Where the library is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn log(level: LogLevel, category: &str, _id: &str, location: &str, message: &str) {
    match level {
        LogLevel::Fatal | LogLevel::Error => tracing::warn!(category, location, "ONNX Runtime: {message}"),
        LogLevel::Warning => tracing::debug!(category, location, "ONNX Runtime: {message}"),
        LogLevel::Info | LogLevel::Verbose => tracing::trace!(category, location, "ONNX Runtime: {message}"),
    }
}
