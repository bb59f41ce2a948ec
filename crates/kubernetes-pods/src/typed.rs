//! Values of Kubernetes' own types, as people write them.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use slipway_domain::Invalid;

/// A value, if there is one.
///
/// # Errors
/// It is not one of the type; names the field.
pub fn parsed<T>(field: &str, value: Option<&Value>) -> Result<Option<T>, Invalid>
where
    T: DeserializeOwned + Serialize,
{
    value.map(|value| read(field, value)).transpose()
}

/// Values of one type.
///
/// # Errors
/// One is not; names the field.
pub fn each<T>(field: &str, values: &[Value]) -> Result<Vec<T>, Invalid>
where
    T: DeserializeOwned + Serialize,
{
    values.iter().enumerate().map(|(index, value)| read(&format!("{field}[{index}]"), value)).collect()
}

/// The items, if there are any: Kubernetes leaves empty lists out.
pub fn non_empty<T>(items: Vec<T>) -> Option<Vec<T>> {
    Some(items).filter(|items| !items.is_empty())
}

/// Reads a value. What the type does not have is refused: it would be left out without a word.
fn read<T: DeserializeOwned + Serialize>(field: &str, value: &Value) -> Result<T, Invalid> {
    let wrong = |error: serde_json::Error| Invalid::new(field, error.to_string());
    let typed = T::deserialize(value).map_err(wrong)?;
    let kept = serde_json::to_value(&typed).map_err(wrong)?;
    match left_out(value, &kept) {
        None => Ok(typed),
        Some(path) => {
            let kind = std::any::type_name::<T>().rsplit("::").next().unwrap_or_default();
            Err(Invalid::new(format!("{field}{path}"), format!("Kubernetes has no such field in `{kind}`")))
        }
    }
}

/// Path of the first field that `given` has and `kept` has not.
fn left_out(given: &Value, kept: &Value) -> Option<String> {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => given.iter().find_map(|(name, value)| {
            let path = match kept.get(name) {
                Some(kept) => left_out(value, kept)?,
                None if value.is_null() => return None,
                None => String::new(),
            };
            Some(format!(".{name}{path}"))
        }),
        (Value::Array(given), Value::Array(kept)) => given
            .iter()
            .zip(kept)
            .enumerate()
            .find_map(|(index, (given, kept))| Some(format!("[{index}]{}", left_out(given, kept)?))),
        _ => None,
    }
}
