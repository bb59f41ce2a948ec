//! `InferenceService` of KServe: what it means as a ModelDeployment, and what KServe would say about it.
//!
//! Source: <https://kserve.github.io/website/docs/reference/crd-api>.

mod definition;
mod status;
mod translate;

pub use definition::definition;
pub use status::{Status, status};
pub use translate::{Translated, canary_percent, translate};

use crate::{Kind, Object};

/// The kind `InferenceService`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InferenceServiceKind;

impl Kind for InferenceServiceKind {
    const GROUP: &'static str = "serving.kserve.io";
    const VERSION: &'static str = "v1beta1";
    const API_VERSION: &'static str = "serving.kserve.io/v1beta1";
    const KIND: &'static str = "InferenceService";
    const PLURAL: &'static str = "inferenceservices";
    // Its ModelDeployment goes with it, and drains by itself.
    const FINALIZER: &'static str = "";
    type Status = Status;
}

/// An InferenceService of the cluster.
pub type InferenceService = Object<InferenceServiceKind>;
