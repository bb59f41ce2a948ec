//! Attempts of training jobs as Jobs of Kubernetes: the objects that an attempt needs, and what their status
//! says about it. Everything here is a function of its arguments; nothing talks to a cluster.
//!
//! An attempt is one `batch/v1` Job that runs each of its pods once: whether another attempt follows is
//! decided by [`slipway_domain::training`], not by the Job controller. The Job's name follows from job and
//! attempt, so that creating it twice creates it once.

mod attempt;
mod container;
mod facts;
mod job;
mod names;
mod observe;
mod pod;
mod volumes;

pub use attempt::Attempt;
pub use facts::{Facts, Placement, Presets};
pub use job::{build, owned_by, secret, service};
pub use names::{MANAGED_BY, attempt_of, of_attempt, selector};
pub use observe::{Cause, Observed, observe};
