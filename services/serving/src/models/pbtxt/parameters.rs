//! The parameters of Triton's ONNX Runtime backend.

use super::text::{Value, scalar, whole_number};
use crate::models::served::VersionSettings;

/// Takes one entry of `parameters`.
///
/// # Errors
/// It is none that can be set, or its value means nothing.
pub(super) fn set(entry: &[(String, Value)], settings: &mut VersionSettings) -> Result<(), String> {
    let key = scalar(entry, "key").unwrap_or_default();
    let value = entry.iter().find_map(|(name, value)| match value {
        Value::Message(fields) if name == "value" => scalar(fields, "string_value"),
        _ => None,
    });
    let value = value.unwrap_or_default();
    let number = || whole_number(value).and_then(|number| usize::try_from(number).ok());
    let refused = |expected: &str| Err(format!("parameters '{key}' is '{value}'; expected {expected}"));
    match (key, number()) {
        ("intra_op_thread_count", Some(0)) | ("inter_op_thread_count", Some(0 | 1)) => {}
        ("intra_op_thread_count", Some(threads)) => settings.intra_threads = Some(threads),
        ("intra_op_thread_count", None) => return refused("a number of threads"),
        ("inter_op_thread_count", _) => return refused("0 or 1"),
        ("execution_mode", Some(0)) => {}
        ("execution_mode", _) => return refused("0, sequential execution"),
        ("enable_mem_arena", Some(flag @ (0 | 1))) => settings.arena = Some(flag == 1),
        ("enable_mem_arena", _) => return refused("0 or 1"),
        ("enable_mem_pattern", Some(0 | 1)) => {}
        ("enable_mem_pattern", _) => return refused("0 or 1"),
        _ => {
            return Err(format!(
                "parameters '{key}' is not supported; expected intra_op_thread_count, inter_op_thread_count, \
                 execution_mode, enable_mem_arena or enable_mem_pattern"
            ));
        }
    }
    Ok(())
}
