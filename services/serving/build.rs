//! Compiles the inference protocol's descriptors, which gRPC reflection shows to clients.
use std::path::{Path, PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.join("inference").display());
    let descriptors = protox::compile(["inference/grpc_service.proto"], [&root])?;
    let folder = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(folder.join("inference.bin"), descriptors.encode_to_vec())?;
    Ok(())
}
