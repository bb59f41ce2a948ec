//! The typed client of Slipway's REST APIs: one method for each route, with the bodies of
//! [`slipway_api::rest`].
//!
//! The client of a service is made from a [`Client`], which holds the address of the service, the caller's
//! token and the caller's name. Every request goes through it, so none leaves without them.

mod error;
mod launcher;
mod monitors;
pub mod registry;
mod rollouts;
mod serving;
pub mod sse;
mod transport;

pub use error::Error;
pub use launcher::{Launcher, LogEvent, LogEvents};
pub use monitors::DriftMonitor;
pub use registry::Registry;
pub use rollouts::RolloutController;
pub use serving::Serving;
pub use transport::{ByteStream, Client, Request};
