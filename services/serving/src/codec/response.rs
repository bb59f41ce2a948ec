//! Inference answers: JSON alone, or JSON with raw tensors behind it.

use std::borrow::Cow;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::Serialize;
use slipway_inference::{Data, Datatype, Signature, Tensor, TensorSpec};

use super::classification::{classified, no_classes};
use super::element::Elements;
use super::request::InferRequest;
use crate::failure::{Failure, Kind};
use crate::models::Labels;

/// An answer to encode.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InferResponse<'answer> {
    /// The deployment that the client called.
    pub model_name: &'answer str,
    /// The version that answered.
    pub model_version: &'answer str,
    /// Every output of the model.
    pub outputs: &'answer [Tensor],
    /// Names of its classes.
    pub labels: &'answer Labels,
}

/// A body and what its headers say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Encoded {
    /// The bytes.
    pub body: Bytes,
    /// Length of the JSON part; `None` where the body is JSON alone.
    pub header_length: Option<usize>,
}

#[derive(Serialize)]
struct ResponseJson<'answer> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'answer str>,
    model_name: &'answer str,
    model_version: &'answer str,
    outputs: Vec<OutputJson<'answer>>,
}

#[derive(Serialize)]
struct OutputJson<'answer> {
    name: &'answer str,
    datatype: &'static str,
    shape: &'answer [i64],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<BinarySize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Elements<'answer>>,
}

#[derive(Serialize)]
struct BinarySize {
    binary_data_size: usize,
}

impl InferResponse<'_> {
    /// Encodes the outputs that `request` asked for, as it asked for them.
    ///
    /// # Errors
    /// An output that the model does not have, or half precision asked for as JSON.
    pub(crate) fn encode(&self, request: &InferRequest) -> Result<Encoded, Failure> {
        let chosen = self.choose(request)?;
        let mut raw = BytesMut::new();
        let mut outputs = Vec::with_capacity(chosen.len());
        for (tensor, binary) in &chosen {
            let before = raw.len();
            if *binary {
                put_raw(tensor, &mut raw);
            } else {
                check_json(&tensor.name, tensor.datatype)?;
                check_text(tensor)?;
            }
            outputs.push(OutputJson {
                name: &tensor.name,
                datatype: tensor.datatype.name(),
                shape: &tensor.shape,
                parameters: binary.then(|| BinarySize { binary_data_size: raw.len() - before }),
                data: (!binary).then_some(Elements(tensor)),
            });
        }
        let json = ResponseJson {
            id: request.id.as_deref(),
            model_name: self.model_name,
            model_version: self.model_version,
            outputs,
        };
        let json = serde_json::to_vec(&json)
            .map_err(|error| Failure::new(Kind::Internal, format!("the answer does not encode: {error}")))?;
        if !chosen.iter().any(|(_, binary)| *binary) {
            return Ok(Encoded { body: json.into(), header_length: None });
        }
        let header_length = Some(json.len());
        let mut body = BytesMut::from(Bytes::from(json));
        body.extend_from_slice(&raw);
        Ok(Encoded { body: body.freeze(), header_length })
    }

    fn choose(&self, request: &InferRequest) -> Result<Vec<(Cow<'_, Tensor>, bool)>, Failure> {
        // An empty list means all, as clients send it for want of a choice.
        let Some(wanted) = request.outputs.as_ref().filter(|wanted| !wanted.is_empty()) else {
            return Ok(self
                .outputs
                .iter()
                .map(|tensor| (Cow::Borrowed(tensor), request.binary_outputs))
                .collect());
        };
        wanted
            .iter()
            .map(|output| {
                let tensor = find_output(self.outputs, &output.name)?;
                let labels = self.labels.of(&output.name);
                Ok((
                    classified(tensor, output.classes, labels)?,
                    output.binary.unwrap_or(request.binary_outputs),
                ))
            })
            .collect()
    }
}

/// The output of a name.
///
/// # Errors
/// The model has none of that name.
pub(crate) fn find_output<'answer>(
    outputs: &'answer [Tensor],
    name: &str,
) -> Result<&'answer Tensor, Failure> {
    let known = || outputs.iter().map(|tensor| tensor.name.as_str());
    outputs.iter().find(|tensor| tensor.name == name).ok_or_else(|| unexpected(name, known()))
}

fn unexpected<'name>(name: &str, known: impl Iterator<Item = &'name str>) -> Failure {
    let known: Vec<String> = known.map(|known| format!("'{known}'")).collect();
    Failure::invalid(format!("unexpected inference output '{name}'; the model gives {}", known.join(", ")))
}

/// Description of a requested output, as classes or as it is. A request for an unknown one gets an error
/// before the model runs.
///
/// # Errors
/// The model has none of that name, or none that has classes.
pub(crate) fn check_output<'model>(
    signature: &'model Signature,
    name: &str,
    classes: Option<usize>,
) -> Result<&'model TensorSpec, Failure> {
    let known = || signature.outputs.iter().map(|spec| spec.name.as_str());
    let spec = signature.outputs.iter().find(|spec| spec.name == name);
    let spec = spec.ok_or_else(|| unexpected(name, known()))?;
    match classes {
        Some(_) if matches!(spec.datatype, Datatype::Bool | Datatype::Bytes) => {
            Err(no_classes(name, spec.datatype))
        }
        _ => Ok(spec),
    }
}

/// JSON is text. Which elements a tensor has is known only once the model has run.
pub(super) fn check_text(tensor: &Tensor) -> Result<(), Failure> {
    if !matches!(tensor.data, Data::Octets(_)) {
        return Ok(());
    }
    let at = tensor.data.octets().position(|octets| std::str::from_utf8(octets).is_err()).unwrap_or(0);
    Err(Failure::invalid(format!(
        "output '{}': element {at} is not UTF-8, which JSON cannot carry; ask for it as binary data",
        tensor.name
    )))
}

fn check_json(name: &str, datatype: Datatype) -> Result<(), Failure> {
    if matches!(datatype, Datatype::Fp16 | Datatype::Bf16) {
        return Err(Failure::invalid(format!(
            "output '{name}' is {datatype}, which JSON cannot carry; ask for it as binary data"
        )));
    }
    Ok(())
}

impl InferRequest {
    /// Refuses outputs that a model does not give in the form asked for.
    ///
    /// # Errors
    /// Names the output.
    pub(crate) fn check_outputs(&self, signature: &Signature) -> Result<(), Failure> {
        let Some(wanted) = self.outputs.as_ref().filter(|wanted| !wanted.is_empty()) else {
            let mut as_json = signature.outputs.iter().filter(|_| !self.binary_outputs);
            return as_json.try_for_each(|spec| check_json(&spec.name, spec.datatype));
        };
        for output in wanted {
            let spec = check_output(signature, &output.name, output.classes)?;
            if output.classes.is_none() && !output.binary.unwrap_or(self.binary_outputs) {
                check_json(&spec.name, spec.datatype)?;
            }
        }
        Ok(())
    }
}

/// Appends the raw form of a tensor.
fn put_raw(tensor: &Tensor, into: &mut BytesMut) {
    match &tensor.data {
        Data::Raw(bytes) => into.extend_from_slice(bytes),
        data @ (Data::Strings(_) | Data::Octets(_)) => put_strings(data, into),
    }
}

fn put_strings(data: &Data, into: &mut BytesMut) {
    for octets in data.octets() {
        // A string of 4 GiB does not get this far: bodies are limited to less.
        into.put_u32_le(u32::try_from(octets.len()).unwrap_or(u32::MAX));
        into.extend_from_slice(octets);
    }
}

/// The raw form of a tensor; shares its memory where it can.
pub(crate) fn raw_of(tensor: &Tensor) -> Bytes {
    match &tensor.data {
        Data::Raw(bytes) => bytes.clone(),
        data @ (Data::Strings(_) | Data::Octets(_)) => {
            let mut raw = BytesMut::new();
            put_strings(data, &mut raw);
            raw.freeze()
        }
    }
}
