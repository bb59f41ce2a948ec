//! Models as exporters and attackers write them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on can only fail")]

mod crashes;
mod reading;
mod row_wise;
mod zip_map;
