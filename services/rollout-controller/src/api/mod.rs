//! What clients call: REST for people and tools, gRPC for other services.

pub(crate) mod access;
pub(crate) mod grpc;
pub(crate) mod rest;
