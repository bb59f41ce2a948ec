//! Between protocol messages and tensors.

use std::borrow::Cow;

use bytes::Bytes;
use slipway_api::inference as proto;
use slipway_api::inference::infer_parameter::ParameterChoice;
use slipway_api::inference::model_infer_request::InferRequestedOutputTensor;
use slipway_api::inference::model_infer_response::InferOutputTensor;
use slipway_inference::{Data, Datatype, Signature, Tensor};

use crate::codec::{check_output, class_count, classified, each_once, find_output, raw_of, read_raw};
use crate::failure::{Failure, Kind};
use crate::predict::Answer;

/// The inputs of a request: all raw, or all typed.
pub(crate) fn inputs(request: proto::ModelInferRequest) -> Result<Vec<Tensor>, Failure> {
    let mut raw = request.raw_input_contents.into_iter();
    let is_raw = raw.len() > 0;
    if is_raw && raw.len() != request.inputs.len() {
        return Err(Failure::invalid(format!(
            "raw_input_contents has {} entries for {} inputs",
            raw.len(),
            request.inputs.len()
        )));
    }
    let mut tensors = Vec::with_capacity(request.inputs.len());
    for input in request.inputs {
        let name = input.name;
        let complain = |message: String| Failure::invalid(format!("input '{name}': {message}"));
        let datatype = Datatype::from_name(&input.datatype)
            .ok_or_else(|| complain(format!("unknown datatype '{}'", input.datatype)))?;
        if input.parameters.keys().any(|key| key.starts_with("shared_memory")) {
            return Err(Failure::new(
                Kind::Unsupported,
                "shared memory is not supported; send the data in the request",
            ));
        }
        let data = match (raw.next(), input.contents) {
            (Some(_), Some(_)) => {
                return Err(complain("has both contents and an entry in raw_input_contents".to_owned()));
            }
            (Some(bytes), None) => read_raw(datatype, bytes).map_err(complain)?,
            (None, contents) => typed(datatype, contents.unwrap_or_default()).map_err(complain)?,
        };
        tensors.push(Tensor { name, datatype, shape: input.shape, data });
    }
    Ok(tensors)
}

/// Rejects contents of another type: a client would not notice that they are not read.
fn check_fields(datatype: Datatype, contents: &proto::InferTensorContents) -> Result<(), String> {
    let right = match datatype {
        Datatype::Bool => "bool_contents",
        Datatype::Int8 | Datatype::Int16 | Datatype::Int32 => "int_contents",
        Datatype::Int64 => "int64_contents",
        Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 => "uint_contents",
        Datatype::Uint64 => "uint64_contents",
        Datatype::Fp32 => "fp32_contents",
        Datatype::Fp64 => "fp64_contents",
        Datatype::Bytes => "bytes_contents",
        // They have none, which is said of them in any case.
        Datatype::Fp16 | Datatype::Bf16 => return Ok(()),
    };
    let given = [
        ("bool_contents", contents.bool_contents.len()),
        ("int_contents", contents.int_contents.len()),
        ("int64_contents", contents.int64_contents.len()),
        ("uint_contents", contents.uint_contents.len()),
        ("uint64_contents", contents.uint64_contents.len()),
        ("fp32_contents", contents.fp32_contents.len()),
        ("fp64_contents", contents.fp64_contents.len()),
        ("bytes_contents", contents.bytes_contents.len()),
    ];
    match given.into_iter().find(|(field, elements)| *field != right && *elements > 0) {
        Some((wrong, elements)) => {
            Err(format!("{datatype} goes into {right}, and {wrong} has {elements} elements"))
        }
        None => Ok(()),
    }
}

fn typed(datatype: Datatype, contents: proto::InferTensorContents) -> Result<Data, String> {
    check_fields(datatype, &contents)?;
    let narrow = |value: i64| format!("{value} does not fit {datatype}");
    let mut bytes = Vec::new();
    match datatype {
        Datatype::Bool => bytes.extend(contents.bool_contents.iter().map(|flag| u8::from(*flag))),
        Datatype::Int8 => {
            for value in contents.int_contents {
                bytes.extend(i8::try_from(value).map_err(|_| narrow(value.into()))?.to_le_bytes());
            }
        }
        Datatype::Int16 => {
            for value in contents.int_contents {
                bytes.extend(i16::try_from(value).map_err(|_| narrow(value.into()))?.to_le_bytes());
            }
        }
        Datatype::Int32 => bytes.extend(contents.int_contents.iter().flat_map(|value| value.to_le_bytes())),
        Datatype::Int64 => bytes.extend(contents.int64_contents.iter().flat_map(|value| value.to_le_bytes())),
        Datatype::Uint8 => {
            for value in contents.uint_contents {
                bytes.push(u8::try_from(value).map_err(|_| narrow(value.into()))?);
            }
        }
        Datatype::Uint16 => {
            for value in contents.uint_contents {
                bytes.extend(u16::try_from(value).map_err(|_| narrow(value.into()))?.to_le_bytes());
            }
        }
        Datatype::Uint32 => bytes.extend(contents.uint_contents.iter().flat_map(|value| value.to_le_bytes())),
        Datatype::Uint64 => {
            bytes.extend(contents.uint64_contents.iter().flat_map(|value| value.to_le_bytes()));
        }
        Datatype::Fp32 => bytes.extend(contents.fp32_contents.iter().flat_map(|value| value.to_le_bytes())),
        Datatype::Fp64 => bytes.extend(contents.fp64_contents.iter().flat_map(|value| value.to_le_bytes())),
        Datatype::Fp16 | Datatype::Bf16 => {
            return Err(format!("{datatype} has no typed contents; send it in raw_input_contents"));
        }
        Datatype::Bytes => {
            return Ok(Data::of_octets(contents.bytes_contents));
        }
    }
    Ok(Data::Raw(Bytes::from(bytes)))
}

/// An output that was asked for.
pub(super) struct Wanted {
    name: String,
    classes: Option<usize>,
}

impl Wanted {
    /// Refuses what the model does not give.
    pub(super) fn check(&self, signature: &Signature) -> Result<(), Failure> {
        check_output(signature, &self.name, self.classes).map(drop)
    }
}

/// The outputs asked for; none means all.
pub(super) fn wanted_outputs(request: &proto::ModelInferRequest) -> Result<Vec<Wanted>, Failure> {
    let wanted = |output: &InferRequestedOutputTensor| {
        if output.parameters.keys().any(|key| key.starts_with("shared_memory")) {
            return Err(Failure::new(
                Kind::Unsupported,
                "shared memory is not supported; outputs come in the answer",
            ));
        }
        let classes = match output.parameters.get("classification") {
            None => None,
            Some(count) => Some(class_count(&output.name, whole_number(count))?),
        };
        Ok(Wanted { name: output.name.clone(), classes })
    };
    each_once(request.outputs.iter().map(|output| output.name.as_str()))?;
    request.outputs.iter().map(wanted).collect()
}

/// A parameter that is a whole number, not negative.
pub(super) fn whole_number(parameter: &proto::InferParameter) -> Option<u64> {
    match parameter.parameter_choice.as_ref()? {
        ParameterChoice::Int64Param(number) => u64::try_from(*number).ok(),
        ParameterChoice::Uint64Param(number) => Some(*number),
        _ => None,
    }
}

/// An answer, always raw: Triton's clients read nothing else.
pub(super) fn response(
    model_name: String,
    id: String,
    answer: &Answer,
    wanted: &[Wanted],
) -> Result<proto::ModelInferResponse, Failure> {
    let chosen: Vec<Cow<'_, Tensor>> = if wanted.is_empty() {
        answer.outputs.iter().map(Cow::Borrowed).collect()
    } else {
        let choose = |output: &Wanted| {
            let labels = answer.described.beside.labels.of(&output.name);
            classified(find_output(&answer.outputs, &output.name)?, output.classes, labels)
        };
        wanted.iter().map(choose).collect::<Result<_, _>>()?
    };
    let output = |tensor: &Cow<'_, Tensor>| InferOutputTensor {
        name: tensor.name.clone(),
        datatype: tensor.datatype.name().to_owned(),
        shape: tensor.shape.clone(),
        ..InferOutputTensor::default()
    };
    Ok(proto::ModelInferResponse {
        model_name,
        model_version: answer.source.version.clone(),
        id,
        outputs: chosen.iter().map(output).collect(),
        raw_output_contents: chosen.iter().map(|tensor| raw_of(tensor)).collect(),
        ..proto::ModelInferResponse::default()
    })
}

/// A parameter as text, where it is text or a whole number.
pub(super) fn text_parameter(parameter: &proto::InferParameter) -> Option<String> {
    match parameter.parameter_choice.as_ref()? {
        ParameterChoice::StringParam(text) => Some(text.clone()),
        ParameterChoice::Int64Param(number) => Some(number.to_string()),
        ParameterChoice::Uint64Param(number) => Some(number.to_string()),
        ParameterChoice::BoolParam(_) | ParameterChoice::DoubleParam(_) => None,
    }
}

/// A parameter that is true or false.
pub(super) const fn flag(value: bool) -> proto::InferParameter {
    proto::InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(value)) }
}
