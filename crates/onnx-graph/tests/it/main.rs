//! Models as exporters and attackers write them.

mod reading;
mod row_wise;
mod zip_map;
