//! What becomes of any bytes that a client may send: a request or a refusal, without a panic, and without
//! memory out of proportion.
//!
//! The fuzz targets in `fuzz/` give these functions what libFuzzer finds (`cargo xtask fuzz`); tests give
//! them damaged requests.

#[cfg(test)]
mod codec;

use std::convert::Infallible;

use axum::body::Body;
use bytes::Bytes;
use futures::{FutureExt as _, stream};
use prost::Message as _;
use slipway_api::inference::ModelInferRequest;
use slipway_inference::{Datatype, Signature, Tensor, TensorSpec};

use crate::api::grpc::{inputs, read_message};
use crate::codec::compression::Coding;
use crate::codec::{InferRequest, InferResponse, Inputs, parse_instances};
use crate::models::Labels;

/// Elements are at most so many times as long as their text: `1,` becomes eight bytes, `"",` a string of its
/// own.
pub const GROWTH: usize = 16;
/// An answer that gives the inputs back is at most so many times as long as the elements: a byte may become
/// six in JSON.
const ANSWER_GROWTH: usize = 16;
/// What names, shapes and the JSON around them take next to the elements, times the length of the request.
const ANSWER_ROOM: usize = 1024;
/// No more is unpacked of a body, and no longer message is read.
const LIMIT_BYTES: usize = 4096;

/// A model that takes an input of each kind.
fn signature() -> Signature {
    let spec = |name: &str, datatype, shape: &[i64]| TensorSpec {
        name: name.to_owned(),
        datatype,
        shape: shape.to_vec(),
    };
    let inputs = vec![
        spec("x", Datatype::Fp32, &[-1, 2]),
        spec("t", Datatype::Bytes, &[-1]),
        spec("y", Datatype::Int64, &[1]),
    ];
    Signature { outputs: inputs.clone(), inputs, ..Signature::default() }
}

fn size_bytes(tensors: &[Tensor]) -> usize {
    tensors.iter().map(Tensor::size_bytes).sum()
}

/// The body of an inference request; some of it is raw tensors, where `header_length` says how much is JSON.
pub fn request(body: &Bytes, header_length: Option<&str>) {
    let Ok(request) = InferRequest::parse(body, header_length) else { return };
    let held = match &request.inputs {
        Inputs::Named(tensors) => size_bytes(tensors),
        Inputs::WholeBody(body) => body.len(),
    };
    assert!(held <= body.len() * GROWTH, "{held} bytes are held of {}", body.len());
    let Ok(tensors) = request.inputs.clone().resolve(&signature()) else { return };
    let _ = signature().check(&tensors);
    let labels = Labels::default();
    let answer = InferResponse { model_name: "m", model_version: "1", outputs: &tensors, labels: &labels };
    if let Ok(answer) = answer.encode(&request) {
        let limit = held * ANSWER_GROWTH + (body.len() + 1) * ANSWER_ROOM;
        assert!(answer.body.len() <= limit, "{} bytes answer {}", answer.body.len(), body.len());
    }
}

/// A body that is JSON alone.
pub fn json(body: &[u8]) {
    request(&Bytes::copy_from_slice(body), None);
}

/// A body whose JSON is as long as its first two bytes say.
pub fn binary(bytes: &[u8]) {
    let Some((length, body)) = bytes.split_first_chunk() else { return };
    request(&Bytes::copy_from_slice(body), Some(&u16::from_le_bytes(*length).to_string()));
}

/// A body of KServe's v1.
pub fn rows(body: &[u8]) {
    let Signature { inputs, .. } = signature();
    let body = Bytes::copy_from_slice(body);
    for inputs in [inputs[..1].to_vec(), inputs[1..].to_vec()] {
        let signature = Signature { inputs, ..Signature::default() };
        if let Ok(tensors) = parse_instances(&body, &signature) {
            assert!(size_bytes(&tensors) <= body.len() * GROWTH);
        }
    }
}

/// A message of `ModelInfer`.
pub fn grpc(message: &[u8]) {
    let length = message.len();
    if let Ok(message) = ModelInferRequest::decode(Bytes::copy_from_slice(message))
        && let Ok(tensors) = inputs(message)
    {
        assert!(size_bytes(&tensors) <= length * GROWTH);
        let _ = signature().check(&tensors);
    }
}

/// The body of a call of `ModelInfer`, in pieces as long as its first byte says.
///
/// # Panics
/// Reading waits for more than there is.
pub fn framed(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let pieces = bytes.chunks(usize::from(*size).max(1)).map(Bytes::copy_from_slice);
    let pieces: Vec<Result<Bytes, Infallible>> = pieces.map(Ok).collect();
    let body = Body::from_stream(stream::iter(pieces));
    let read = read_message::<ModelInferRequest>(body, LIMIT_BYTES).now_or_never();
    assert!(read.is_some(), "all of it is there, and it waits");
}

/// A compressed body: gzip where its first byte is even, else deflate.
pub fn compressed(bytes: &[u8]) {
    let Some((coding, body)) = bytes.split_first() else { return };
    let coding = if coding % 2 == 0 { Coding::Gzip } else { Coding::Deflate };
    if let Ok(unpacked) = coding.unpack(body, LIMIT_BYTES) {
        assert!(unpacked.len() <= LIMIT_BYTES);
        assert!(coding.unpack(&coding.pack(&unpacked), LIMIT_BYTES).is_ok_and(|again| again == unpacked));
    }
}
