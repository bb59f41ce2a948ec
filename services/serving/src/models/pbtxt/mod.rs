//! Triton's `config.pbtxt`: instances, batching, queue, tensors, versions, the steps of an ensemble. Every
//! field is obeyed, refused, or documented to have no effect: see [`fields`].

mod ensemble;
mod fields;
mod parameters;
mod policy;
mod strings;
mod text;

use std::path::Path;

use slipway_domain::ensemble::Definition;
use slipway_inference::LoadOptions;

pub(crate) use self::policy::VersionPolicy;
use self::text::{Value, message, number, scalar, tokens};
use super::contract::Declarations;
use super::files::MODEL_FILE;
use super::served::VersionSettings;

/// Name of the file, next to the versions' folders.
pub(crate) const CONFIG_FILE: &str = "config.pbtxt";
/// Longest file.
const MAX_BYTES: u64 = 1024 * 1024;
/// What the file says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ModelConfig {
    /// How the model is run.
    pub settings: VersionSettings,
    /// The most rows that a request is said to have; 0: what comes first in the shapes is no batch.
    pub max_batch_size: Option<usize>,
    /// The models of an ensemble, where it is one.
    pub ensemble: Option<Definition>,
    /// Which versions are served, where it says so.
    pub version_policy: Option<VersionPolicy>,
    /// What it says of the tensors of a model. Those of an ensemble are part of its definition.
    pub tensors: Declarations,
    name: String,
}

/// The configuration in a model's folder; `None` where there is no such file.
///
/// # Errors
/// The file does not parse, a number is none, or an ensemble cannot be.
pub(crate) fn config(model: &Path) -> Result<Option<ModelConfig>, String> {
    let path = model.join(CONFIG_FILE);
    let Ok(described) = std::fs::metadata(&path) else { return Ok(None) };
    let complain = |reason: String| format!("its `{CONFIG_FILE}`: {reason}");
    if !described.is_file() {
        // Reading a pipe would block until a process writes to it.
        return Err(complain("it is no file".to_owned()));
    }
    if described.len() > MAX_BYTES {
        return Err(complain(format!("longer than {MAX_BYTES} bytes")));
    }
    let text = std::fs::read_to_string(&path).map_err(|error| complain(error.to_string()))?;
    let config = read(&text).map_err(complain)?;
    let folder = model.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if !config.name.is_empty() && config.name != folder {
        return Err(complain(format!(
            "name is '{}'; expected '{folder}', as its folder is called",
            config.name
        )));
    }
    Ok(Some(config))
}

/// How a model with this configuration is run, where the process runs others as `defaults` say.
///
/// # Errors
/// Names the field of the file that is out of its range.
pub(crate) fn options(config: &ModelConfig, defaults: &LoadOptions) -> Result<LoadOptions, String> {
    config.settings.options(defaults).map_err(|refused| {
        let field = match refused.field {
            "instances" => "instance_group.count",
            "queue_limit" => "dynamic_batching.default_queue_policy.max_queue_size",
            "batch_delay_us" => "dynamic_batching.max_queue_delay_microseconds",
            "preferred_batch_rows" => "dynamic_batching.preferred_batch_size",
            other => other,
        };
        format!(
            "its `{CONFIG_FILE}`: {field} {}",
            refused.complaint.replace("max_batch_rows", "max_batch_size")
        )
    })
}

fn read(text: &str) -> Result<ModelConfig, String> {
    let mut tokens = tokens(text).into_iter().peekable();
    let fields = message(&mut tokens, 0)?;
    fields::check(&fields)?;
    let max_batch_size = fields.iter().find(|(name, _)| name == "max_batch_size");
    let max_batch_size = max_batch_size.map(|(name, value)| number(name, value)).transpose()?;
    let ensemble = ensemble::definition(&fields)?;
    check_backend(&fields, ensemble.is_some())?;
    let tensors = match ensemble {
        Some(_) => Declarations::default(),
        None => ensemble::declarations(&fields, max_batch_size.unwrap_or(0))?,
    };
    Ok(ModelConfig {
        settings: settings(&fields)?,
        max_batch_size,
        ensemble,
        version_policy: policy::version_policy(&fields)?,
        tensors,
        name: scalar(&fields, "name").unwrap_or_default().to_owned(),
    })
}

/// Refuses a model of another runtime.
fn check_backend(fields: &[(String, Value)], is_ensemble: bool) -> Result<(), String> {
    let (platform, backend) =
        if is_ensemble { ("ensemble", "") } else { ("onnxruntime_onnx", "onnxruntime") };
    for (name, expected) in
        [("platform", platform), ("backend", backend), ("default_model_filename", MODEL_FILE)]
    {
        match scalar(fields, name) {
            Some(given) if !given.is_empty() && given != expected => {
                return Err(format!("{name} is '{given}'; expected '{expected}'"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn settings(fields: &[(String, Value)]) -> Result<VersionSettings, String> {
    let mut settings = VersionSettings::default();
    let mut groups = 0;
    for (name, value) in fields {
        match (name.as_str(), value) {
            // 0 says that the model has no batch dimension of its own accord; nothing is joined then.
            ("max_batch_size", value) => settings.max_batch_rows = Some(number::<usize>(name, value)?.max(1)),
            ("instance_group", Value::Message(group)) => {
                let count = group.iter().find(|(name, _)| name == "count");
                let count = count.map(|(name, value)| number::<usize>(name, value)).transpose()?;
                // Groups are in addition to each other; one that does not say is of one instance.
                let before = settings.instances;
                settings.instances = match (before, count.filter(|count| *count > 0)) {
                    (None, count) if groups == 0 => count,
                    (before, count) => Some(before.unwrap_or(groups).saturating_add(count.unwrap_or(1))),
                };
                groups += 1;
                match scalar(group, "kind") {
                    Some("KIND_GPU" | "1") => settings.device = settings.device.or(Some("cuda".to_owned())),
                    Some(kind @ ("KIND_MODEL" | "3")) => {
                        return Err(format!(
                            "instance_group.kind is {kind}; expected KIND_AUTO, KIND_CPU or KIND_GPU"
                        ));
                    }
                    _ => {}
                }
                for (name, value) in group.iter().filter(|(name, _)| name == "gpus") {
                    let gpu: i64 = number(name, value)?;
                    if gpu != 0 {
                        return Err(format!("instance_group.gpus is {gpu}; expected 0, the first one"));
                    }
                }
            }
            ("optimization", Value::Message(optimization)) => {
                if let Some(device) = accelerator(optimization)? {
                    settings.device = Some(device);
                }
            }
            ("parameters", Value::Message(entry)) => parameters::set(entry, &mut settings)?,
            ("dynamic_batching", Value::Message(batching)) => batching_settings(batching, &mut settings)?,
            ("output", Value::Message(output)) => {
                let file = scalar(output, "label_filename").filter(|file| !file.is_empty());
                let labelled = scalar(output, "name").zip(file);
                settings.labels.extend(labelled.map(|(name, file)| (name.to_owned(), file.to_owned())));
            }
            _ => {}
        }
    }
    let dynamic = fields.iter().any(|(name, _)| name == "dynamic_batching");
    match settings.max_batch_rows {
        _ if !dynamic => settings.max_batch_rows = Some(1),
        // As in Triton, the setting says that the rows of the model are independent.
        Some(rows) if rows > 1 => settings.join_requests = Some(true),
        _ => {}
    }
    Ok(settings)
}

/// The device that the accelerators of a configuration ask for.
fn accelerator(optimization: &[(String, Value)]) -> Result<Option<String>, String> {
    let messages = |fields: &[(String, Value)], wanted: &str| -> Vec<Vec<(String, Value)>> {
        let wanted = fields.iter().filter(|(name, _)| name == wanted);
        wanted
            .filter_map(|(_, value)| match value {
                Value::Message(fields) => Some(fields.clone()),
                Value::Scalar(_) => None,
            })
            .collect()
    };
    let mut device = None;
    for accelerators in messages(optimization, "execution_accelerators") {
        for gpu in messages(&accelerators, "gpu_execution_accelerator") {
            match scalar(&gpu, "name").unwrap_or_default() {
                // The other one is what TensorRT falls back to, node by node.
                "tensorrt" => device = Some("tensorrt".to_owned()),
                "cuda" => device = device.or(Some("cuda".to_owned())),
                other => {
                    return Err(format!(
                        "optimization.execution_accelerators.gpu_execution_accelerator.name is '{other}'; \
                         expected tensorrt or cuda"
                    ));
                }
            }
        }
    }
    Ok(device)
}

fn batching_settings(fields: &[(String, Value)], settings: &mut VersionSettings) -> Result<(), String> {
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("max_queue_delay_microseconds", value) => settings.batch_delay_us = Some(number(name, value)?),
            ("preferred_batch_size", value) => {
                settings.preferred_batch_rows.get_or_insert_default().push(number(name, value)?);
            }
            ("default_queue_policy", Value::Message(policy)) => {
                for (name, value) in policy.iter().filter(|(name, _)| name == "max_queue_size") {
                    // 0 is no limit there; here a queue always has one.
                    settings.queue_limit = Some(number(name, value)?).filter(|limit| *limit > 0);
                }
            }
            // A request's `priority` is 1, 2 or more: three levels, of which the second is the default.
            ("priority_levels", value) if number::<u64>(name, value)? > 3 => {
                return Err("dynamic_batching.priority_levels: expected at most 3".to_owned());
            }
            ("default_priority_level", value) if !matches!(number::<u64>(name, value)?, 0 | 2) => {
                return Err("dynamic_batching.default_priority_level: expected 2".to_owned());
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_says_how_a_model_is_run_is_taken() {
        let text = r#"
            name: "text" # a comment with { and [
            backend: "onnxruntime"
            max_batch_size: 16
            output { name: "scores" data_type: TYPE_FP32 dims: 3 label_filename: "labels.txt" }
            output { name: "others" }
            input [ { name: "x" data_type: TYPE_FP32 dims: [ -1, 30 ] }, { name: "y", dims: 1 } ]
            instance_group [ { count: 3 kind: KIND_CPU } ]
            dynamic_batching {
              preferred_batch_size: [ 4, 8 ]
              max_queue_delay_microseconds: 200
              default_queue_policy { max_queue_size: 64 timeout_action: REJECT }
            }
            parameters { key: "intra_op_thread_count" value: { string_value: "2" } }
        "#;
        let ModelConfig { settings, max_batch_size, ensemble, tensors, name, .. } = read(text).unwrap();
        assert_eq!((name.as_str(), settings.intra_threads), ("text", Some(2)));
        let shapes: Vec<_> = tensors.inputs.iter().map(|tensor| tensor.declared.shape.clone()).collect();
        assert_eq!(shapes, [Some(vec![-1, -1, 30]), Some(vec![-1, 1])]);
        assert_eq!((tensors.max_batch_size, tensors.outputs.len()), (16, 2));
        assert_eq!((max_batch_size, ensemble), (Some(16), None));
        assert_eq!(
            (settings.max_batch_rows, settings.instances, settings.queue_limit),
            (Some(16), Some(3), Some(64))
        );
        assert_eq!(settings.join_requests, Some(true));
        assert_eq!(read("dynamic_batching { }").unwrap().settings.join_requests, None);
        assert_eq!((settings.batch_delay_us, settings.preferred_batch_rows), (Some(200), Some(vec![4, 8])));
        assert_eq!(settings.labels, [("scores".to_owned(), "labels.txt".to_owned())].into());
        assert_eq!(
            read("max_batch_size: 16").unwrap().settings.max_batch_rows,
            Some(1),
            "joined only where it is asked for"
        );
        assert_eq!(read("name: \"m\"").unwrap().settings.max_batch_rows, Some(1), "the same without a size");
        let refused = read("max_batch_size: many").unwrap_err();
        assert_eq!(refused, "max_batch_size is 'many'; expected a whole number");
        assert!(read("dynamic_batching {").is_err());
    }

    #[test]
    fn what_is_out_of_its_range_is_refused_by_the_files_own_names() {
        for (text, expected) in [
            ("instance_group [ { count: 5000 } ]", "instance_group.count is 5000; expected at most 1024"),
            (
                "dynamic_batching { max_queue_delay_microseconds: 2000000 }",
                "max_queue_delay_microseconds is 2000000; expected at most 1000000",
            ),
            (
                "max_batch_size: 4 dynamic_batching { preferred_batch_size: [ 2, 8 ] }",
                "preferred_batch_size is 8; expected at most max_batch_size, which is 4",
            ),
        ] {
            let refused = options(&read(text).unwrap(), &LoadOptions::default()).unwrap_err();
            assert!(refused.starts_with("its `config.pbtxt`: ") && refused.contains(expected), "{refused}");
        }
    }

    #[test]
    fn values_are_read_in_every_form_that_they_may_have() {
        let text = r#"
            max_batch_size: 0x10
            dynamic_batching { max_queue_delay_microseconds: 010 preferred_batch_size: [ 0X4, 0 ] }
            instance_group [ { count: 2 }, { kind: KIND_CPU }, { count: 3 } ]
            output { name: "sco" 'res' label_filename: "l\141bels" # in two parts
                     "\x2etxt" }
            output { name: "\"others\"" label_filename: "" }
        "#;
        let settings = read(text).unwrap().settings;
        assert_eq!((settings.max_batch_rows, settings.batch_delay_us), (Some(16), Some(8)));
        assert_eq!((settings.instances, settings.preferred_batch_rows), (Some(6), Some(vec![4, 0])));
        assert_eq!(settings.labels, [("scores".to_owned(), "labels.txt".to_owned())].into());
        for (groups, expected) in [
            ("instance_group { kind: KIND_CPU }", None),
            ("instance_group { count: 4 }", Some(4)),
            ("instance_group { } instance_group { count: 4 }", Some(5)),
            ("instance_group [ { count: 4 }, { } ]", Some(5)),
        ] {
            assert_eq!(read(groups).unwrap().settings.instances, expected, "{groups}");
        }
        for none in ["09", "0x", "0xg", "--1", "0x-1", "1.5"] {
            assert!(read(&format!("max_batch_size: {none}")).is_err(), "{none}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let made = std::process::Command::new("mkfifo").arg(folder.path().join(CONFIG_FILE)).status();
        assert!(made.unwrap().success());
        assert_eq!(config(folder.path()).unwrap_err(), "its `config.pbtxt`: it is no file");
    }

    proptest! {
        #[test]
        fn no_text_stops_the_reader(text in "[a-z:{}\\[\\]<>,\"'#\\\\ \n0-9]{0,200}") {
            let _ = read(&text);
        }
    }
}
