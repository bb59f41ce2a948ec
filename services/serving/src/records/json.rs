//! Values of records as JSON, without those that are redacted.

use serde::Serialize;
use slipway_inference::{Data, Tensor};

use crate::codec::{json_values, put_raw_values};
use crate::source::Redaction;

/// Appends the values of a tensor, separated by commas, null in place of those that are not recorded.
pub(super) fn put_values(tensor: &Tensor, redaction: &Redaction, body: &mut Vec<u8>) {
    match (&tensor.data, redaction) {
        (Data::Raw(bytes), Redaction::Nothing) => put_raw_values(tensor.datatype, bytes, body),
        (Data::Strings(strings), Redaction::Nothing) => put_strings(strings, body),
        _ => put_redacted(tensor, redaction, body),
    }
}

/// Appends strings, separated by commas.
pub(super) fn put_strings(strings: &[String], body: &mut Vec<u8>) {
    for (at, text) in strings.iter().enumerate() {
        separate(body, at);
        put(body, text);
    }
}

pub(super) fn put_redacted(tensor: &Tensor, redaction: &Redaction, body: &mut Vec<u8>) {
    for (at, value) in redacted(tensor, redaction).iter().enumerate() {
        separate(body, at);
        put(body, value);
    }
}

/// The values of a tensor, null in place of those that are not recorded.
pub(super) fn redacted(tensor: &Tensor, redaction: &Redaction) -> Vec<serde_json::Value> {
    let mut values = json_values(tensor);
    let rows = usize::try_from(tensor.rows()).unwrap_or(0).max(1);
    let width = (values.len() / rows).max(1);
    match redaction {
        Redaction::Nothing => {}
        Redaction::Everything => values.fill(serde_json::Value::Null),
        Redaction::Columns(columns) => {
            for row in values.chunks_mut(width) {
                for column in columns {
                    if let Some(value) = row.get_mut(*column) {
                        *value = serde_json::Value::Null;
                    }
                }
            }
        }
    }
    values
}

pub(super) fn separate(body: &mut Vec<u8>, at: usize) {
    if at > 0 {
        body.push(b',');
    }
}

/// Appends a value; writing into memory cannot fail, and none of these has a form that JSON lacks.
pub(super) fn put<T: Serialize + ?Sized>(body: &mut Vec<u8>, value: &T) {
    if serde_json::to_writer(&mut *body, value).is_err() {
        body.extend_from_slice(b"null");
    }
}
