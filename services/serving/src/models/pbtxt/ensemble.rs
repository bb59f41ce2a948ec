//! The ensemble of a `config.pbtxt`, and the tensors that a model declares in the same form.

use std::collections::BTreeMap;

use slipway_api::inference::model_input::Format;
use slipway_domain::ensemble::{Declared, Definition, Step};
use slipway_inference::Datatype;

use super::fields::flag;
use super::text::{Value, number, scalar};
use crate::models::contract::{Declarations, DeclaredTensor};

/// The ensemble that a file describes, where it describes one.
///
/// # Errors
/// A step lacks a name, or the steps do not make an ensemble.
pub(super) fn definition(fields: &[(String, Value)]) -> Result<Option<Definition>, String> {
    let is_ensemble = |(name, value): &(String, Value)| match value {
        Value::Scalar(platform) => name == "platform" && platform == "ensemble",
        Value::Message(_) => name == "ensemble_scheduling",
    };
    if !fields.iter().any(is_ensemble) {
        return Ok(None);
    }
    let mut definition = Definition { inputs: Vec::new(), outputs: Vec::new(), steps: Vec::new() };
    let batched = match fields.iter().find(|(name, _)| name == "max_batch_size") {
        Some((name, value)) => number::<u32>(name, value)? > 0,
        None => false,
    };
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("input" | "output", Value::Message(tensor)) => {
                if tensor.iter().any(|(field, _)| field == "reshape") {
                    return Err(format!(
                        "{name}.reshape is not supported for an ensemble; reshape in its models"
                    ));
                }
                let side = if name == "input" { &mut definition.inputs } else { &mut definition.outputs };
                side.push(declared(tensor, batched)?);
            }
            ("ensemble_scheduling", Value::Message(scheduling)) => {
                for (_, value) in scheduling.iter().filter(|(name, _)| name == "step") {
                    let Value::Message(fields) = value else {
                        return Err("step expects a message".to_owned());
                    };
                    definition.steps.push(step(fields)?);
                }
            }
            _ => {}
        }
    }
    definition.checked().map(Some)
}

/// The tensors that a model declares.
///
/// # Errors
/// One has no name, an unknown type, or a size that is none.
pub(super) fn declarations(
    fields: &[(String, Value)],
    max_batch_size: usize,
) -> Result<Declarations, String> {
    let mut declarations = Declarations { max_batch_size, ..Declarations::default() };
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("input", Value::Message(tensor)) => declarations.inputs.push(tensor_of(tensor, max_batch_size)?),
            ("output", Value::Message(tensor)) => {
                declarations.outputs.push(tensor_of(tensor, max_batch_size)?);
            }
            _ => {}
        }
    }
    Ok(declarations)
}

fn tensor_of(fields: &[(String, Value)], max_batch_size: usize) -> Result<DeclaredTensor, String> {
    let reshape = fields.iter().find_map(|(name, value)| match value {
        Value::Message(reshape) if name == "reshape" => Some(sizes(reshape, "shape")),
        _ => None,
    });
    let format = match scalar(fields, "format") {
        Some("FORMAT_NHWC" | "1") => Format::Nhwc,
        Some("FORMAT_NCHW" | "2") => Format::Nchw,
        _ => Format::None,
    };
    Ok(DeclaredTensor {
        declared: declared(fields, max_batch_size > 0)?,
        reshape: reshape.transpose()?,
        format: format.into(),
        optional: scalar(fields, "optional").and_then(flag).unwrap_or(false),
    })
}

fn sizes(fields: &[(String, Value)], wanted: &str) -> Result<Vec<i64>, String> {
    let sizes = fields.iter().filter(|(name, _)| name == wanted);
    let sizes: Vec<i64> = sizes.map(|(name, value)| number(name, value)).collect::<Result<_, _>>()?;
    match sizes.iter().find(|size| **size < -1) {
        Some(size) => Err(format!("{wanted} has {size}; expected a size, or -1 for one that varies")),
        None => Ok(sizes),
    }
}

/// A tensor; where there is a batch, its dimension comes before those that are written.
fn declared(fields: &[(String, Value)], batched: bool) -> Result<Declared, String> {
    let name = scalar(fields, "name").ok_or("an input or output has no name")?.to_owned();
    let datatype = match scalar(fields, "data_type") {
        None => None,
        Some("TYPE_STRING") => Some(Datatype::Bytes),
        Some(kind) => {
            let known = kind.strip_prefix("TYPE_").and_then(Datatype::from_name);
            Some(known.ok_or_else(|| format!("data_type of '{name}' is {kind}; expected e.g. TYPE_FP32"))?)
        }
    };
    let dims = sizes(fields, "dims")?;
    let shape = (!dims.is_empty()).then(|| batched.then_some(-1).into_iter().chain(dims).collect());
    Ok(Declared { name, datatype, shape })
}

fn step(fields: &[(String, Value)]) -> Result<Step, String> {
    let model = scalar(fields, "model_name").ok_or("a step has no model_name")?.to_owned();
    // -1 is whichever is current.
    let version = scalar(fields, "model_version").filter(|version| *version != "-1").map(str::to_owned);
    let map = |wanted: &str| -> Result<BTreeMap<String, String>, String> {
        let mut map = BTreeMap::new();
        for (_, value) in fields.iter().filter(|(name, _)| name == wanted) {
            let Value::Message(entry) = value else { return Err(format!("{wanted} expects key and value")) };
            let pair = scalar(entry, "key").zip(scalar(entry, "value"));
            let (key, tensor) =
                pair.ok_or_else(|| format!("{wanted} of '{model}' lacks a key or a value"))?;
            map.insert(key.to_owned(), tensor.to_owned());
        }
        Ok(map)
    };
    Ok(Step { inputs: map("input_map")?, outputs: map("output_map")?, model, version })
}

#[cfg(test)]
mod tests {
    use super::super::read;

    const TEXT: &str = r#"
        name: "pipeline"
        platform: "ensemble"
        max_batch_size: 8
        input [ { name: "raw" data_type: TYPE_STRING dims: [ 1 ] } ]
        output [ { name: "probability" data_type: TYPE_FP32 dims: [ -1, 3 ] } ]
        ensemble_scheduling {
          step [
            { model_name: "encode" model_version: -1
              input_map { key: "text" value: "raw" } output_map { key: "tokens" value: "encoded" } },
            { model_name: "classify" model_version: 2
              input_map { key: "tokens" value: "encoded" }
              output_map: { key: "scores", value: "probability" } }
          ]
        }
    "#;

    #[test]
    fn tritons_steps_are_ours() {
        let ensemble = read(TEXT).unwrap().ensemble.unwrap();
        assert_eq!(ensemble.inputs[0].datatype, Some(slipway_inference::Datatype::Bytes));
        assert_eq!(ensemble.inputs[0].shape, Some(vec![-1, 1]));
        assert_eq!(ensemble.outputs[0].shape, Some(vec![-1, -1, 3]));
        let steps: Vec<_> =
            ensemble.steps.iter().map(|step| (step.model.as_str(), step.version.as_deref())).collect();
        assert_eq!(steps, [("encode", None), ("classify", Some("2"))]);
        assert_eq!(ensemble.steps[1].outputs["scores"], "probability");
    }

    #[test]
    fn an_ensemble_that_cannot_be_is_refused() {
        for (from, to, expected) in [
            (r#"value: "encoded""#, r#"value: "probability""#, "which step 1 ('encode') gives, too"),
            ("TYPE_FP32", "FLOAT", "output.data_type is 'FLOAT'; expected one of TYPE_INVALID, TYPE_BOOL"),
            (r#"model_name: "encode""#, "", "a step has no model_name"),
            (r#"key: "text""#, "", "input_map of 'encode' lacks a key or a value"),
        ] {
            let refused = read(&TEXT.replace(from, to)).unwrap_err();
            assert!(refused.contains(expected), "{refused}");
        }
        assert!(read(r#"platform: "ensemble""#).is_err());
    }
}
