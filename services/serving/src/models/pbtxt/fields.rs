//! Every field of Triton's model configuration, and what becomes of it here: nothing is skipped without a
//! word.
//!
//! `triton_fields.txt` lists the fields of `inference.ModelConfig` (triton-inference-server/common,
//! `protobuf/model_config.proto`), as of tritonclient 2.73: path, `repeated` where it is, kind, and the
//! values of enumerations.

use std::collections::{BTreeMap, HashSet};
use std::sync::LazyLock;

use super::text::{Value, whole_number};

/// What becomes of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Treatment {
    /// It does what it does in Triton.
    Obeyed,
    /// The version does not load where it says anything but its default.
    Refused,
    /// It is read and has no effect: answers do not depend on it.
    Ignored,
}

use Treatment::{Ignored, Obeyed, Refused};

/// By path, for the field and all below it unless these have a line of their own: the treatment, and how or
/// why.
pub(super) const TREATMENTS: &[(&str, Treatment, &str)] = &[
    ("name", Obeyed, "has to be the name of the model's folder"),
    ("platform", Obeyed, "`onnxruntime_onnx` or `ensemble`; any other is refused"),
    ("backend", Obeyed, "`onnxruntime`; any other is refused"),
    ("runtime", Refused, "there is one runtime, ONNX Runtime"),
    ("version_policy", Obeyed, "which versions are served; unset: the 16 highest"),
    ("max_batch_size", Obeyed, "requests with more rows are refused; above 0, `dims` are without the batch"),
    ("input", Obeyed, "all inputs or none; compared with the model"),
    ("input.data_type", Obeyed, "has to be the model's"),
    ("input.format", Obeyed, "is shown to clients in `…/config`"),
    ("input.dims", Obeyed, "have to fit the model's; a size in place of -1 is what requests must have"),
    ("input.reshape", Obeyed, "for `dims` without -1"),
    ("input.is_shape_tensor", Refused, "only TensorRT models have shape tensors"),
    ("input.allow_ragged_batch", Refused, "rows of different shapes are never joined"),
    ("input.optional", Obeyed, "has to be an input with a default in the model"),
    ("input.is_non_linear_format_io", Refused, "only TensorRT models have such formats"),
    ("output", Obeyed, "compared with the model; outputs that are not listed are not served"),
    ("output.data_type", Obeyed, "has to be the model's"),
    ("output.dims", Obeyed, "have to fit the model's"),
    ("output.reshape", Obeyed, "for `dims` without -1"),
    ("output.label_filename", Obeyed, "names of the classes"),
    ("output.is_shape_tensor", Refused, "only TensorRT models have shape tensors"),
    ("output.is_non_linear_format_io", Refused, "only TensorRT models have such formats"),
    ("batch_input", Refused, "inputs come from requests only"),
    ("batch_output", Refused, "outputs are split by rows only"),
    ("optimization", Ignored, "speed only; graphs are always optimised fully"),
    (
        "optimization.execution_accelerators.gpu_execution_accelerator.name",
        Obeyed,
        "`tensorrt` or `cuda`; any other is refused",
    ),
    (
        "optimization.execution_accelerators.gpu_execution_accelerator.parameters",
        Refused,
        "accelerators run with their defaults",
    ),
    (
        "optimization.execution_accelerators.cpu_execution_accelerator",
        Refused,
        "there is no accelerator for the processor",
    ),
    ("dynamic_batching", Obeyed, "requests are joined where the model's rows do not interact"),
    ("dynamic_batching.preferred_batch_size", Obeyed, "at most `max_batch_size`"),
    ("dynamic_batching.max_queue_delay_microseconds", Obeyed, "at most 1000000"),
    ("dynamic_batching.preserve_ordering", Ignored, "answers of a stream always come in its order"),
    ("dynamic_batching.priority_levels", Obeyed, "up to 3; 1 goes first, 2 next, 3 last"),
    ("dynamic_batching.default_priority_level", Obeyed, "2; any other is refused"),
    ("dynamic_batching.default_queue_policy.timeout_action", Refused, "expired requests are rejected"),
    (
        "dynamic_batching.default_queue_policy.default_timeout_microseconds",
        Refused,
        "requests say themselves how long they wait, with the parameter `timeout`",
    ),
    (
        "dynamic_batching.default_queue_policy.allow_timeout_override",
        Ignored,
        "the `timeout` of a request always applies",
    ),
    ("dynamic_batching.default_queue_policy.max_queue_size", Obeyed, "0: the limit of the server"),
    ("dynamic_batching.priority_queue_policy", Refused, "all priorities share one queue limit"),
    ("sequence_batching", Refused, "models have no state between requests"),
    ("ensemble_scheduling", Obeyed, "see [ensembles](serving/running-models.md#ensembles)"),
    (
        "ensemble_scheduling.max_inflight_requests",
        Ignored,
        "limits decoupled models, of which there are none",
    ),
    ("ensemble_scheduling.step.model_namespace", Refused, "models have no namespaces"),
    ("instance_group", Obeyed, "how many runs go on at the same time, and where"),
    ("instance_group.name", Ignored, "names nothing that is shown"),
    ("instance_group.kind", Obeyed, "`KIND_AUTO`, `KIND_CPU` or `KIND_GPU`; `KIND_MODEL` is refused"),
    ("instance_group.count", Obeyed, "counts of several groups add up"),
    ("instance_group.gpus", Obeyed, "0; models on a GPU run on the first one, any other is refused"),
    ("instance_group.rate_limiter", Ignored, "as in Triton without `--rate-limit`"),
    ("instance_group.secondary_devices", Refused, "models run on one device"),
    ("instance_group.profile", Refused, "only TensorRT models have optimisation profiles"),
    ("instance_group.passive", Refused, "every instance takes requests"),
    ("instance_group.host_policy", Ignored, "placement on the host; speed only"),
    ("default_model_filename", Obeyed, "`model.onnx`; any other is refused"),
    ("cc_model_filenames", Refused, "a version has one model file"),
    ("metric_tags", Ignored, "metrics have their own labels"),
    ("parameters", Obeyed, "those below; any other key is refused"),
    ("parameters.intra_op_thread_count", Obeyed, "0: the default of the server"),
    ("parameters.inter_op_thread_count", Obeyed, "0 or 1; any other is refused"),
    ("parameters.execution_mode", Obeyed, "0, sequential; any other is refused"),
    ("parameters.enable_mem_arena", Obeyed, "0 or 1"),
    ("parameters.enable_mem_pattern", Ignored, "memory only; patterns are never kept"),
    ("model_warmup", Ignored, "every version is warmed up with inputs of its own"),
    ("model_operations", Refused, "libraries that come with a model are not loaded"),
    ("model_transaction_policy", Ignored, "has one field"),
    ("model_transaction_policy.decoupled", Refused, "a request has one answer"),
    ("model_repository_agents", Refused, "no agents run"),
    ("response_cache", Ignored, "no answers are cached; every request runs the model"),
    ("model_metrics", Ignored, "histograms have their own buckets"),
];

/// What a field holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Message,
    Text,
    Whole,
    Float,
    Flag,
    /// Names of its values; the first is the default.
    Enum(Vec<&'static str>),
}

/// One field of Triton's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) repeated: bool,
    pub(super) kind: Kind,
}

/// Every field by its path.
pub(super) static FIELDS: LazyLock<BTreeMap<&'static str, Field>> =
    LazyLock::new(|| include_str!("triton_fields.txt").lines().filter_map(field).collect());

fn field(line: &'static str) -> Option<(&'static str, Field)> {
    let mut words = line.split(' ');
    let (path, mut kind) = (words.next()?, words.next()?);
    let repeated = kind == "repeated";
    if repeated {
        kind = words.next()?;
    }
    let kind = match kind {
        "message" => Kind::Message,
        "text" => Kind::Text,
        "whole" => Kind::Whole,
        "float" => Kind::Float,
        "flag" => Kind::Flag,
        _ => Kind::Enum(words.collect()),
    };
    Some((path, Field { repeated, kind }))
}

/// The treatment of a field: its own line, or that of the closest message above it.
pub(super) fn treatment(path: &str) -> Option<(Treatment, &'static str)> {
    let covers =
        |of: &str| path.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let covering = TREATMENTS.iter().filter(|(of, ..)| covers(of));
    covering.max_by_key(|(of, ..)| of.len()).map(|(_, treatment, note)| (*treatment, *note))
}

/// Refuses what is no field, has no value of its kind, or is not honoured.
///
/// # Errors
/// Names the field, its value and what was expected.
pub(super) fn check(fields: &[(String, Value)]) -> Result<(), String> {
    check_below("", fields)?;
    let scheduling = ["dynamic_batching", "sequence_batching", "ensemble_scheduling"];
    let chosen: Vec<&str> =
        scheduling.into_iter().filter(|name| fields.iter().any(|(field, _)| field == name)).collect();
    match chosen.as_slice() {
        [first, second, ..] => Err(format!("{first} and {second} cannot both be set")),
        _ => Ok(()),
    }
}

fn check_below(above: &str, fields: &[(String, Value)]) -> Result<(), String> {
    let mut seen = HashSet::new();
    for (name, value) in fields {
        let path = format!("{above}{name}");
        let Some(field) = FIELDS.get(path.as_str()) else {
            return Err(format!("{path} is no field of Triton's model configuration"));
        };
        if !field.repeated && !seen.insert(name) {
            return Err(format!("{path} is set twice"));
        }
        let treated = treatment(&path);
        match (&field.kind, value) {
            (Kind::Message, Value::Message(below)) => {
                if let Some((Refused, why)) = treated {
                    return Err(format!("{path} is not supported: {why}"));
                }
                check_below(&format!("{path}."), below)?;
            }
            (Kind::Message, Value::Scalar(text)) => {
                return Err(format!("{path} is '{text}'; expected a message in braces"));
            }
            (_, Value::Message(_)) => {
                return Err(format!("{path} is a message; expected {}", expected(&field.kind)));
            }
            (kind, Value::Scalar(text)) => {
                let default = is_default(kind, text)
                    .ok_or_else(|| format!("{path} is '{text}'; expected {}", expected(kind)))?;
                if let Some((Refused, why)) = treated.filter(|_| !default) {
                    return Err(format!("{path} is '{text}', which is not supported: {why}"));
                }
            }
        }
    }
    Ok(())
}

fn expected(kind: &Kind) -> String {
    match kind {
        Kind::Message => "a message in braces".to_owned(),
        Kind::Text => "a string".to_owned(),
        Kind::Whole => "a whole number".to_owned(),
        Kind::Float => "a number".to_owned(),
        Kind::Flag => "true or false".to_owned(),
        Kind::Enum(names) => format!("one of {}", names.join(", ")),
    }
}

/// Whether a value is the default of its kind; `None` where it is none of that kind.
fn is_default(kind: &Kind, text: &str) -> Option<bool> {
    match kind {
        Kind::Message => None,
        Kind::Text => Some(text.is_empty()),
        Kind::Whole => whole_number(text).map(|number| number == 0),
        Kind::Float => text.trim_end_matches(['f', 'F']).parse::<f64>().ok().map(|number| number == 0.0),
        Kind::Flag => flag(text).map(|flag| !flag),
        Kind::Enum(names) => {
            let at = names.iter().position(|name| *name == text);
            at.or_else(|| usize::try_from(whole_number(text)?).ok().filter(|at| *at < names.len()))
                .map(|at| at == 0)
        }
    }
}

/// A truth value, as the text form writes it.
pub(super) fn flag(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "t" | "1" => Some(true),
        "false" | "False" | "f" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

    /// A value of a kind that is not its default.
    fn other(kind: &Kind) -> String {
        match kind {
            Kind::Message => "{ }".to_owned(),
            Kind::Text => "\"other\"".to_owned(),
            Kind::Whole => "1".to_owned(),
            Kind::Float => "0.5".to_owned(),
            Kind::Flag => "true".to_owned(),
            Kind::Enum(names) => (*names.get(1).or(names.first()).expect("it has values")).to_owned(),
        }
    }

    /// A file in which nothing but this field is set, to something else than its default.
    fn text(path: &str, field: &Field) -> String {
        let names: Vec<&str> = path.split('.').collect();
        let (last, above) = names.split_last().expect("a path has a name");
        let open: String = above.iter().map(|name| format!("{name} {{ ")).collect();
        format!("{open}{last}: {}{}", other(&field.kind), " }".repeat(above.len()))
    }

    /// Obeyed fields whose value in this test is refused, because it is none that can be obeyed: how the
    /// refusal begins.
    const BEYOND: [(&str, &str); 15] = [
        ("platform", "platform is 'other'; expected 'onnxruntime_onnx'"),
        ("backend", "backend is 'other'; expected 'onnxruntime'"),
        ("version_policy.specific", "version_policy.specific.versions is empty"),
        ("input", "an input or output has no name"),
        ("output", "an input or output has no name"),
        (
            "optimization.execution_accelerators.gpu_execution_accelerator",
            "optimization.execution_accelerators.gpu_execution_accelerator.name is ''",
        ),
        (
            "optimization.execution_accelerators.gpu_execution_accelerator.name",
            "optimization.execution_accelerators.gpu_execution_accelerator.name is 'other'",
        ),
        ("dynamic_batching.default_priority_level", "dynamic_batching.default_priority_level: expected 2"),
        ("ensemble_scheduling", ""),
        ("instance_group.gpus", "instance_group.gpus is 1; expected 0"),
        ("default_model_filename", "default_model_filename is 'other'; expected 'model.onnx'"),
        ("parameters", "parameters '' is not supported"),
        ("parameters.key", "parameters 'other' is not supported"),
        ("parameters.value", "parameters '' is not supported"),
        ("parameters.value.string_value", "parameters '' is not supported"),
    ];

    #[test]
    fn every_field_of_triton_is_obeyed_refused_or_known_to_have_no_effect() {
        assert!(FIELDS.len() > 190, "the list is whole");
        let nothing = read("").unwrap();
        for (path, field) in FIELDS.iter() {
            let (treatment, why) = treatment(path).unwrap_or_else(|| panic!("{path} has no treatment"));
            assert!(!why.is_empty(), "{path}");
            let outcome = read(&text(path, field));
            let above_is_ensemble = path.starts_with("ensemble_scheduling");
            let beyond = BEYOND.iter().find(|(beyond, _)| beyond == path).map(|(_, refusal)| *refusal);
            match (treatment, outcome) {
                // An ensemble of this one field is none.
                _ if above_is_ensemble => {}
                (Refused, Err(refusal)) => {
                    let top = path.split('.').next().unwrap_or_default();
                    assert!(refusal.contains(top) && refusal.contains("not supported"), "{path}: {refusal}");
                }
                (Refused, Ok(config)) => panic!("{path} is skipped: {config:?}"),
                (Ignored, Ok(config)) => {
                    // Its message alone has requests joined.
                    assert!(config == nothing || path.starts_with("dynamic_batching"), "{path}: {config:?}");
                }
                (Ignored, Err(refusal)) if path.contains("execution_accelerators") => {
                    assert!(refusal.contains("execution_accelerators"), "{path}: {refusal}");
                }
                (Ignored, Err(refusal)) => panic!("{path}: {refusal}"),
                (Obeyed, Err(refusal)) => {
                    let named = path.starts_with("input.") || path.starts_with("output.");
                    let told =
                        beyond.unwrap_or(if named { "an input or output has no name" } else { "not known" });
                    assert!(refusal.starts_with(told), "{path}: {refusal}");
                }
                (Obeyed, Ok(_)) => assert_eq!(beyond, None, "{path}"),
            }
        }
        for (path, ..) in TREATMENTS {
            let is_parameter = path.strip_prefix("parameters.").is_some_and(|name| name.contains('_'));
            assert!(FIELDS.contains_key(path) || is_parameter, "{path} is no field");
        }
    }

    #[test]
    fn the_documentation_lists_every_treatment() {
        let page = include_str!("../../../../../docs/triton-config.md");
        let rows: Vec<String> = TREATMENTS
            .iter()
            .map(|(path, treatment, why)| {
                let treatment = match treatment {
                    Obeyed => "obeyed",
                    Refused => "refused",
                    Ignored => "ignored",
                };
                format!("| `{path}` | {treatment} | {why} |")
            })
            .collect();
        let missing: Vec<&String> = rows.iter().filter(|row| !page.contains(row.as_str())).collect();
        assert!(missing.is_empty(), "docs/triton-config.md lacks:\n{missing:#?}");
        assert_eq!(page.matches("\n| `").count(), rows.len(), "docs/triton-config.md has other rows");
    }

    #[test]
    fn what_is_no_field_or_no_value_is_refused() {
        for (text, refusal) in [
            ("max_batchsize: 4", "max_batchsize is no field of Triton's model configuration"),
            ("input { nam: \"x\" }", "input.nam is no field of Triton's model configuration"),
            ("max_batch_size: 4 max_batch_size: 8", "max_batch_size is set twice"),
            (
                "instance_group { kind: KIND_TPU }",
                "instance_group.kind is 'KIND_TPU'; expected one of KIND_AUTO",
            ),
            ("dynamic_batching: 1", "dynamic_batching is '1'; expected a message in braces"),
            ("name { }", "name is a message; expected a string"),
            ("sequence_batching { }", "sequence_batching is not supported: models have no state"),
            (
                "model_transaction_policy { decoupled: true }",
                "model_transaction_policy.decoupled is 'true', which is not supported: a request has one \
                 answer",
            ),
            (
                "dynamic_batching { } ensemble_scheduling { }",
                "dynamic_batching and ensemble_scheduling cannot both be set",
            ),
            (
                "dynamic_batching { priority_levels: 4 }",
                "dynamic_batching.priority_levels: expected at most 3",
            ),
            ("backend: \"python\"", "backend is 'python'; expected 'onnxruntime'"),
            ("platform: \"tensorrt_plan\"", "platform is 'tensorrt_plan'; expected 'onnxruntime_onnx'"),
            (
                "parameters { key: \"execution_mode\" value { string_value: \"1\" } }",
                "parameters 'execution_mode' is '1'; expected 0",
            ),
        ] {
            let refused = read(text).unwrap_err();
            assert!(refused.starts_with(refusal), "{text}: {refused}");
        }
        for text in [
            "model_transaction_policy { decoupled: false }",
            "response_cache { enable: true }",
            "runtime: \"\"",
            "dynamic_batching { default_queue_policy { timeout_action: REJECT } priority_levels: 2 }",
        ] {
            assert!(read(text).is_ok(), "{text}: {:?}", read(text));
        }
    }
}
