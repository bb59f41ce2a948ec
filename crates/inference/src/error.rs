//! What can go wrong between a tensor and an answer.

/// Why a model did not load, or a request was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The ONNX Runtime library cannot be used.
    #[error("ONNX Runtime cannot be loaded from `{path}`: {reason}")]
    Library {
        /// As configured.
        path: String,
        /// What was wrong with it.
        reason: String,
    },
    /// The ONNX Runtime library has a version that Slipway is not tested with.
    #[error(
        "ONNX Runtime {version} at `{path}` is not tested; expected a version from {}",
        crate::versions::tested()
    )]
    Untested {
        /// As configured.
        path: String,
        /// What the library says.
        version: String,
    },
    /// The model cannot be served, now or later.
    #[error("{0}")]
    Load(String),
    /// The inputs do not fit the model; the caller's fault.
    #[error("{message}")]
    InvalidInput {
        /// Name of the input at fault; empty where it is the request as a whole.
        input: String,
        /// What was expected and what came.
        message: String,
    },
    /// The model's queue is full.
    #[error("the model already has {limit} queued requests; try again")]
    Overloaded {
        /// Longest queue.
        limit: usize,
    },
    /// The answer did not come in time.
    #[error("no answer from the model within {limit_ms} ms; try again")]
    TimedOut {
        /// Longest wait.
        limit_ms: u64,
    },
    /// The caller wanted the answer sooner.
    #[error("the request's timeout of {timeout_us} µs expired; it was not answered in time")]
    Expired {
        /// How long the caller would wait.
        timeout_us: u64,
    },
    /// The model failed on valid inputs.
    #[error("the model failed: {0}")]
    Runtime(String),
}

impl Error {
    pub(crate) fn invalid(input: impl Into<String>, message: impl Into<String>) -> Self {
        Self::InvalidInput { input: input.into(), message: message.into() }
    }
}
