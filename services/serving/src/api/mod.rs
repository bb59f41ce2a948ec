//! What clients call: REST, gRPC, and one file for each extension of the protocol, which both of them use.

pub(crate) mod access;
pub(crate) mod changed_by;
pub(crate) mod describe;
pub(crate) mod drain;
pub(crate) mod grpc;
pub(crate) mod log_settings;
pub(crate) mod model_config;
pub(crate) mod parameters;
pub(crate) mod paths;
mod platform;
pub(crate) mod repository;
pub(crate) mod rest;
pub(crate) mod settings;
pub(crate) mod statistics;
pub(crate) mod trace_settings;
pub(crate) mod web_guard;
