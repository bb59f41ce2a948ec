//! Triton's `config.pbtxt`, as far as it says how a model is run: instances, batching, queue, the steps of an ensemble. The rest is read
//! over.

mod ensemble;

use std::path::Path;

use slipway_domain::ensemble::Definition;
use slipway_inference::LoadOptions;

use super::served::VersionSettings;

/// Name of the file, beside the versions' folders.
pub(crate) const CONFIG_FILE: &str = "config.pbtxt";
/// Longest file.
const MAX_BYTES: u64 = 1024 * 1024;
/// Deepest nesting of messages.
const MAX_DEPTH: usize = 32;

/// A field's value in Protocol Buffers' text form.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Scalar(String),
    Message(Vec<(String, Self)>),
}

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ModelConfig {
    /// How the model is run.
    pub settings: VersionSettings,
    /// The most rows that a request is said to have; 0: what comes first in the shapes is no batch.
    pub max_batch_size: Option<usize>,
    /// The models of an ensemble, where it is one.
    pub ensemble: Option<Definition>,
}

/// The configuration in a model's folder; `None` where there is no such file.
///
/// # Errors
/// The file does not parse, a number is none, or an ensemble cannot be.
pub(crate) fn config(model: &Path) -> Result<Option<ModelConfig>, String> {
    let path = model.join(CONFIG_FILE);
    let Ok(described) = std::fs::metadata(&path) else { return Ok(None) };
    let complain = |reason: String| format!("its `{CONFIG_FILE}`: {reason}");
    if described.len() > MAX_BYTES {
        return Err(complain(format!("longer than {MAX_BYTES} bytes")));
    }
    let text = std::fs::read_to_string(&path).map_err(|error| complain(error.to_string()))?;
    read(&text).map(Some).map_err(complain)
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
    let max_batch_size = fields.iter().find(|(name, _)| name == "max_batch_size");
    Ok(ModelConfig {
        settings: settings(&fields)?,
        max_batch_size: max_batch_size.map(|(name, value)| number(name, value)).transpose()?,
        ensemble: ensemble::definition(&fields)?,
    })
}

fn settings(fields: &[(String, Value)]) -> Result<VersionSettings, String> {
    let mut settings = VersionSettings::default();
    for (name, value) in fields {
        match (name.as_str(), value) {
            // 0 says that the model has no batch dimension of its own accord; nothing is joined then.
            ("max_batch_size", value) => settings.max_batch_rows = Some(number::<usize>(name, value)?.max(1)),
            ("instance_group", Value::Message(group)) => {
                for (name, value) in group {
                    match (name.as_str(), value) {
                        ("count", value) => settings.instances = Some(number(name, value)?),
                        ("kind", Value::Scalar(kind)) if kind == "KIND_GPU" => {
                            settings.device = Some("cuda".to_owned());
                        }
                        _ => {}
                    }
                }
            }
            ("dynamic_batching", Value::Message(batching)) => batching_settings(batching, &mut settings)?,
            ("output", Value::Message(output)) => {
                let text = |wanted: &str| {
                    output.iter().find_map(|(name, value)| match value {
                        Value::Scalar(text) if name == wanted => Some(text.clone()),
                        _ => None,
                    })
                };
                settings.labels.extend(text("name").zip(text("label_filename")));
            }
            _ => {}
        }
    }
    let dynamic = fields.iter().any(|(name, _)| name == "dynamic_batching");
    if !dynamic {
        settings.max_batch_rows = settings.max_batch_rows.map(|_| 1);
    }
    Ok(settings)
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
            _ => {}
        }
    }
    Ok(())
}

fn number<T: std::str::FromStr>(name: &str, value: &Value) -> Result<T, String> {
    let Value::Scalar(text) = value else { return Err(format!("{name} expects a number")) };
    text.parse().map_err(|_| format!("{name} is '{text}'; expected a number"))
}

/// Names, numbers, strings (without their quotes) and punctuation.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '#' => while letters.next_if(|letter| *letter != '\n').is_some() {},
            '"' | '\'' => {
                let mut string = String::from("\"");
                while let Some(next) = letters.next() {
                    match next {
                        '\\' => string.extend(letters.next()),
                        next if next == letter => break,
                        next => string.push(next),
                    }
                }
                tokens.push(string);
            }
            '{' | '}' | '[' | ']' | ':' | ',' | ';' | '<' | '>' => tokens.push(letter.to_string()),
            letter if letter.is_whitespace() => {}
            letter => {
                let mut word = String::from(letter);
                while let Some(next) =
                    letters.next_if(|next| next.is_alphanumeric() || matches!(next, '_' | '.' | '-' | '+'))
                {
                    word.push(next);
                }
                tokens.push(word);
            }
        }
    }
    tokens
}

type Tokens = std::iter::Peekable<std::vec::IntoIter<String>>;

fn message(tokens: &mut Tokens, depth: usize) -> Result<Vec<(String, Value)>, String> {
    if depth > MAX_DEPTH {
        return Err("nested too deeply".to_owned());
    }
    let mut fields = Vec::new();
    while let Some(name) = tokens.next() {
        match name.as_str() {
            "}" | ">" if depth > 0 => return Ok(fields),
            "," | ";" => continue,
            _ => {}
        }
        let colon = tokens.next_if(|token| token == ":").is_some();
        match tokens.peek().map(String::as_str) {
            Some("[") => {
                tokens.next();
                loop {
                    match tokens.peek().map(String::as_str) {
                        Some("]") => break,
                        Some(",") => {}
                        Some(_) => {
                            fields.push((name.clone(), value(tokens, depth)?));
                            continue;
                        }
                        None => return Err(format!("the list {name} does not end")),
                    }
                    tokens.next();
                }
                tokens.next();
            }
            Some("{" | "<") => fields.push((name, value(tokens, depth)?)),
            Some(_) if colon => fields.push((name, value(tokens, depth)?)),
            _ => return Err(format!("{name} has no value")),
        }
    }
    if depth == 0 { Ok(fields) } else { Err("a message does not end".to_owned()) }
}

fn value(tokens: &mut Tokens, depth: usize) -> Result<Value, String> {
    match tokens.next().as_deref() {
        Some("{" | "<") => Ok(Value::Message(message(tokens, depth + 1)?)),
        Some(word) => Ok(Value::Scalar(word.trim_start_matches('"').to_owned())),
        None => Err("a value is missing".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_says_how_a_model_is_run_is_taken_and_the_rest_read_over() {
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
            parameters { key: "a" value: { string_value: "b" } }
        "#;
        let ModelConfig { settings, max_batch_size, ensemble } = read(text).unwrap();
        assert_eq!((max_batch_size, ensemble), (Some(16), None));
        assert_eq!(
            (settings.max_batch_rows, settings.instances, settings.queue_limit),
            (Some(16), Some(3), Some(64))
        );
        assert_eq!((settings.batch_delay_us, settings.preferred_batch_rows), (Some(200), Some(vec![4, 8])));
        assert_eq!(settings.labels, [("scores".to_owned(), "labels.txt".to_owned())].into());
        assert_eq!(
            read("max_batch_size: 16").unwrap().settings.max_batch_rows,
            Some(1),
            "joined only where it is asked for"
        );
        assert_eq!(read("max_batch_size: many").unwrap_err(), "max_batch_size is 'many'; expected a number");
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

    proptest! {
        #[test]
        fn no_text_stops_the_reader(text in "[a-z:{}\\[\\]<>,\"'#\\\\ \n0-9]{0,200}") {
            let _ = read(&text);
        }
    }
}
