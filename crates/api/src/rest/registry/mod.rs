//! The registry: experiments, runs, models, and what belongs to them.

mod access;
mod artifacts;
mod audit;
mod card;
mod cleanup;
mod events;
mod experiments;
mod facts;
mod imports;
mod metrics;
mod models;
mod runs;
mod trust;
mod versions;
mod webhooks;

pub use access::*;
pub use artifacts::*;
pub use audit::*;
pub use card::*;
pub use cleanup::*;
pub use events::*;
pub use experiments::*;
pub use facts::*;
pub use imports::*;
pub use metrics::*;
pub use models::*;
pub use runs::*;
pub use trust::*;
pub use versions::*;
pub use webhooks::*;
