//! Drift: how far live data has moved from the training data, and when that is worth an alarm.
//!
//! A [`Profile`] is what training looked like, a [`Window`] what arrived since. [`score`] compares them;
//! [`policy`] turns a series of scores into "detected" and "cleared".

mod cells;
pub mod layout;
mod measures;
pub mod policy;
mod precision;
mod profile;
mod repetition;
mod score;
mod thresholds;
mod window;

pub use measures::{PSI_SHARE_FLOOR, ks_p_value, ks_statistic, psi};
pub use precision::Precision;
pub use profile::{ColumnKind, ColumnProfile, PROFILE_SCHEMA, Profile};
pub use score::{FeatureScore, MIN_WINDOW_ROWS, WindowScores, score};
pub use thresholds::Thresholds;
pub use window::{MAX_SAMPLE, Value, Window};

#[cfg(test)]
mod tests;
