//! Use cases of registered models: versions, promotion, lineage, and the deployments that use a version.

pub(crate) mod card;
pub(crate) mod deployed;
pub(crate) mod deployments;
pub(crate) mod lineage;
pub(crate) mod promotion;
pub(crate) mod removal;
pub(crate) mod versions;
