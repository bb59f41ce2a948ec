//! Use cases of registered models: versions, promotion, lineage, and the deployments that use a version.

pub(crate) mod aliases;
pub(crate) mod card;
pub(crate) mod deployed;
pub(crate) mod deployments;
mod event_details;
pub(crate) mod lineage;
pub(crate) mod promotion;
pub(crate) mod registered_models;
pub(crate) mod removal;
pub(crate) mod versions;
