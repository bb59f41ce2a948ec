//! What pods of training jobs and of serving have in common.

mod env;
mod privileges;
mod quantity;
mod security;
mod typed;

pub use env::{from_field, from_source, plain};
pub use privileges::refuse_privileges;
pub use quantity::{bytes, millicores};
pub use security::{container as restricted_container, pod as restricted_pod};
pub use typed::{each, non_empty, parsed};
