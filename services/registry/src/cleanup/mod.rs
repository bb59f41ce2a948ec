//! What removes data: retention rules, the purge of deleted entities, unreferenced objects and orphaned
//! objects.

pub(crate) mod deleted;
pub(crate) mod orphans;
pub(crate) mod retention;
pub(crate) mod rules;
pub(crate) mod unreferenced;
