//! What the services say to each other: generated gRPC, event types, and the JSON bodies shared by client and
//! server.

pub mod access;
pub mod events;
pub mod prediction_columns;
pub mod predictions;
pub mod replay;
pub mod rest;
pub mod traffic;

/// Bytes of a training profile that are read: ten thousand columns are about 40 MiB.
pub const MAX_PROFILE_BYTES: u32 = 64 * 1024 * 1024;

/// Descriptors of every gRPC service under /proto, encoded: what reflection shows.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// gRPC generated from /proto. The .proto files carry the documentation.
#[expect(missing_docs, clippy::allow_attributes, clippy::too_many_lines, reason = "generated code")]
pub mod proto {
    pub mod registry {
        tonic::include_proto!("slipway.registry.v1");
    }
    pub mod launcher {
        tonic::include_proto!("slipway.launcher.v1");
    }
    pub mod rollout {
        tonic::include_proto!("slipway.rollout.v1");
    }
    pub mod drift {
        tonic::include_proto!("slipway.drift.v1");
    }
    /// The protocol by which KEDA asks an external scaler.
    pub mod keda {
        tonic::include_proto!("externalscaler");
    }
}

/// Open Inference Protocol v2 (`inference.GRPCInferenceService`), generated from /proto/inference.
#[expect(
    missing_docs,
    clippy::all,
    clippy::allow_attributes,
    clippy::too_many_lines,
    reason = "generated code"
)]
pub mod inference {
    tonic::include_proto!("inference");
}
