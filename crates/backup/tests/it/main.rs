//! Backups against real servers: what was destroyed comes back, byte for byte and row for row.

mod refusals;
mod whole;
mod world;
