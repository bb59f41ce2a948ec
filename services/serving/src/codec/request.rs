//! Inference requests: JSON alone, JSON with raw tensors behind it, or one raw tensor.

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use slipway_http_server::json;
use slipway_inference::{Data, Datatype, Signature, Tensor};

use super::classification::class_count;
use super::lenient;
use super::parse::parse_elements;
use crate::failure::{Failure, Kind};

/// A request as it was understood.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct InferRequest {
    /// The client's id.
    pub id: Option<String>,
    /// Request parameters.
    pub parameters: Map<String, Value>,
    /// What to run the model on.
    pub inputs: Inputs,
    /// Outputs asked for; `None`: all.
    pub outputs: Option<Vec<RequestedOutput>>,
    /// Whether outputs that do not say otherwise are answered as raw tensors.
    pub binary_outputs: bool,
}

/// The inputs of a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Inputs {
    /// Named tensors.
    Named(Vec<Tensor>),
    /// The bytes of the model's only input, one row; see [`Inputs::resolve`].
    WholeBody(Bytes),
}

/// One entry of `outputs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestedOutput {
    /// Name of the model's output.
    pub name: String,
    /// Whether it was asked for as a raw tensor or as JSON, where the client said so.
    pub binary: Option<bool>,
    /// How many of the highest values were asked for in place of the tensor.
    pub classes: Option<usize>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object with `inputs`")]
struct RequestJson<'body> {
    id: Option<String>,
    parameters: Option<Map<String, Value>>,
    #[serde(borrow)]
    inputs: Vec<InputJson<'body>>,
    outputs: Option<Vec<OutputJson>>,
}

#[derive(Deserialize)]
#[serde(expecting = "an input: an object with `name`, `shape` and `datatype`")]
struct InputJson<'body> {
    name: String,
    shape: Vec<i64>,
    #[serde(borrow)]
    datatype: Cow<'body, str>,
    parameters: Option<Map<String, Value>>,
    #[serde(borrow)]
    data: Option<&'body RawValue>,
}

#[derive(Deserialize)]
#[serde(expecting = "an output: an object with `name`")]
struct OutputJson {
    name: String,
    parameters: Option<Map<String, Value>>,
}

impl InferRequest {
    /// Reads an uncompressed body. `header_length` is the value of [`super::HEADER_LENGTH`], if there was
    /// one.
    ///
    /// # Errors
    /// What is wrong and what was expected, naming the input at fault.
    pub(crate) fn parse(body: &Bytes, header_length: Option<&str>) -> Result<Self, Failure> {
        let json_bytes = match header_length {
            None => body.len(),
            Some(text) => {
                text.trim().parse::<usize>().ok().filter(|length| *length <= body.len()).ok_or_else(|| {
                    Failure::invalid(format!(
                        "inference header size should be in range (0, {}), got: {text}",
                        body.len()
                    ))
                })?
            }
        };
        if header_length.is_some() && json_bytes == 0 {
            return Ok(Self {
                id: None,
                parameters: Map::new(),
                inputs: Inputs::WholeBody(body.clone()),
                outputs: None,
                binary_outputs: true,
            });
        }
        let raw = body.slice(json_bytes..);
        let read = |json: &[u8]| json::read(json).map(|json| Self::understand(json, raw.clone()));
        lenient::parse(&body[..json_bytes], read)?
    }

    fn understand(json: RequestJson<'_>, mut raw: Bytes) -> Result<Self, Failure> {
        let mut inputs = Vec::with_capacity(json.inputs.len());
        for input in json.inputs {
            let name = input.name.clone();
            let complain = |message: String| Failure::invalid(format!("input '{name}': {message}"));
            inputs.push(read_input(input, &mut raw, complain)?);
        }
        if !raw.is_empty() {
            return Err(Failure::invalid(format!(
                "unexpected additional input data: {} bytes after the last input",
                raw.len()
            )));
        }
        let parameters = json.parameters.unwrap_or_default();
        let outputs: Option<Vec<RequestedOutput>> =
            json.outputs.map(|outputs| outputs.into_iter().map(read_output).collect()).transpose()?;
        each_once(outputs.iter().flatten().map(|output| output.name.as_str()))?;
        let binary_outputs = match parameters.get("binary_data_output") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(binary)) => *binary,
            Some(other) => {
                return Err(Failure::invalid(format!(
                    "the parameter 'binary_data_output' is {other}; expected true or false"
                )));
            }
        };
        Ok(Self { id: json.id, parameters, inputs: Inputs::Named(inputs), outputs, binary_outputs })
    }
}

impl Inputs {
    /// The named tensors; a whole body becomes the only input of the model.
    ///
    /// # Errors
    /// The model has several inputs, or the body's length fits no shape of its input.
    pub(crate) fn resolve(self, signature: &Signature) -> Result<Vec<Tensor>, Failure> {
        let body = match self {
            Self::Named(tensors) => return Ok(tensors),
            Self::WholeBody(body) => body,
        };
        let [spec] = signature.inputs.as_slice() else {
            return Err(Failure::invalid(format!(
                "a raw request needs a model with one input; this one has {}",
                signature.inputs.len()
            )));
        };
        let complain = |message: String| Failure::invalid(format!("input '{}': {message}", spec.name));
        let Some(each) = spec.datatype.element_bytes() else {
            return Err(complain("BYTES cannot be sent as a raw request".to_owned()));
        };
        let fixed: i64 = spec.shape.iter().filter(|dimension| **dimension >= 0).product();
        let row_bytes =
            usize::try_from(fixed).ok().and_then(|elements| elements.checked_mul(each)).unwrap_or(0);
        if row_bytes == 0 || !body.len().is_multiple_of(row_bytes) {
            return Err(complain(format!(
                "{} bytes do not fill the shape {:?} of {}",
                body.len(),
                spec.shape,
                spec.datatype
            )));
        }
        // The first varying dimension, the batch, takes what there is; further ones are 1.
        let mut left = i64::try_from(body.len() / row_bytes).unwrap_or(0);
        let shape: Vec<i64> = spec
            .shape
            .iter()
            .map(|dimension| if *dimension < 0 { std::mem::replace(&mut left, 1) } else { *dimension })
            .collect();
        let data = read_raw(spec.datatype, body).map_err(complain)?;
        Ok(vec![Tensor { name: spec.name.clone(), datatype: spec.datatype, shape, data }])
    }
}

fn read_input(
    input: InputJson<'_>,
    raw: &mut Bytes,
    complain: impl Fn(String) -> Failure,
) -> Result<Tensor, Failure> {
    let datatype = Datatype::from_name(&input.datatype)
        .ok_or_else(|| complain(format!("unknown datatype '{}'", input.datatype)))?;
    if let Some(dimension) = input.shape.iter().find(|dimension| **dimension < 0) {
        return Err(complain(format!("shape {:?} has the negative dimension {dimension}", input.shape)));
    }
    let parameters = input.parameters.unwrap_or_default();
    if parameters.keys().any(|key| key.starts_with("shared_memory")) {
        return Err(Failure::new(
            Kind::Unsupported,
            "shared memory is not supported; send the data in the request",
        ));
    }
    let binary_size = parameters.get("binary_data_size").filter(|value| !value.is_null());
    let data = match (input.data, binary_size) {
        (Some(values), None) => parse_elements(datatype, values.get()).map_err(&complain)?,
        (None, Some(size)) => {
            let size = size
                .as_u64()
                .and_then(|size| usize::try_from(size).ok())
                .ok_or_else(|| complain(format!("binary_data_size is {size}; expected a number of bytes")))?;
            if size > raw.len() {
                return Err(complain(format!(
                    "unexpected size, expecting {} additional bytes",
                    size - raw.len()
                )));
            }
            read_raw(datatype, raw.split_to(size)).map_err(&complain)?
        }
        _ => {
            return Err(complain(
                "must set exactly one of 'data' and the parameter 'binary_data_size'".to_owned(),
            ));
        }
    };
    let tensor = Tensor { name: input.name, datatype, shape: input.shape, data };
    // In whatever order the dimensions come: a 0 does not make others valid.
    let product = |product: i64, dimension: &i64| product.checked_mul((*dimension).max(1));
    let wanted = tensor.shape.iter().try_fold(1, product);
    let wanted = wanted.map(|wanted| if tensor.shape.contains(&0) { 0 } else { wanted });
    if wanted.and_then(|wanted| usize::try_from(wanted).ok()) != Some(tensor.elements()) {
        return Err(complain(format!(
            "shape {:?} needs {}, the data has {}",
            tensor.shape,
            wanted.map_or_else(
                || "more elements than fit in memory".to_owned(),
                |wanted| format!("{wanted} elements")
            ),
            tensor.elements()
        )));
    }
    Ok(tensor)
}

/// Reads the raw form of a tensor: little-endian elements, or strings each behind its length in four bytes.
pub(crate) fn read_raw(datatype: Datatype, bytes: Bytes) -> Result<Data, String> {
    let Some(each) = datatype.element_bytes() else { return read_strings(&bytes) };
    if !bytes.len().is_multiple_of(each) {
        return Err(format!("{} bytes are no whole number of {datatype} elements", bytes.len()));
    }
    if datatype == Datatype::Bool && bytes.iter().any(|byte| *byte > 1) {
        // As C and NumPy have it, which Triton's clients copy from: what is not 0 is true. The model may
        // count on 1.
        return Ok(Data::Raw(bytes.iter().map(|byte| u8::from(*byte != 0)).collect()));
    }
    Ok(Data::Raw(bytes))
}

fn read_strings(bytes: &Bytes) -> Result<Data, String> {
    let mut strings = Vec::new();
    let mut left: &[u8] = bytes;
    while !left.is_empty() {
        let (length, rest) =
            left.split_first_chunk::<4>().ok_or("the length of the last string is cut off")?;
        let length = u32::from_le_bytes(*length) as usize;
        if length > rest.len() {
            return Err(format!("string {} has {length} bytes, {} are left", strings.len(), rest.len()));
        }
        let (text, rest) = rest.split_at(length);
        strings.push(bytes.slice_ref(text));
        left = rest;
    }
    Ok(Data::of_octets(strings))
}

/// Refuses an output that is asked for twice: an answer would be as long as the list of names, however small
/// the request.
///
/// # Errors
/// The name that comes again.
pub(crate) fn each_once<'name>(outputs: impl Iterator<Item = &'name str>) -> Result<(), Failure> {
    let mut names = HashSet::new();
    for name in outputs {
        if !names.insert(name) {
            return Err(Failure::invalid(format!("output '{name}' is asked for twice")));
        }
    }
    Ok(())
}

fn read_output(output: OutputJson) -> Result<RequestedOutput, Failure> {
    let parameters = output.parameters.unwrap_or_default();
    if parameters.keys().any(|key| key.starts_with("shared_memory")) {
        return Err(Failure::new(
            Kind::Unsupported,
            "shared memory is not supported; outputs come in the answer",
        ));
    }
    let classes = match parameters.get("classification").filter(|value| !value.is_null()) {
        None => None,
        Some(count) => Some(class_count(&output.name, count.as_u64())?),
    };
    let binary = match parameters.get("binary_data") {
        None | Some(Value::Null) => None,
        Some(Value::Bool(binary)) => Some(*binary),
        Some(other) => {
            return Err(Failure::invalid(format!(
                "output '{}': binary_data is {other}; expected true or false",
                output.name
            )));
        }
    };
    Ok(RequestedOutput { name: output.name, binary, classes })
}
