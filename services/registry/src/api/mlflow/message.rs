//! Answers by MLflow's rules: unset fields and empty lists are absent, 64-bit integers are numbers.

use serde_json::{Map, Value, json};

/// MLflow stores infinities as the greatest finite number.
const GREATEST: f64 = f64::MAX;

/// A message being built.
#[derive(Debug, Default)]
pub(crate) struct Message(Map<String, Value>);

impl Message {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Sets a field.
    #[must_use]
    pub(crate) fn put(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// Sets a field where there is a value.
    #[must_use]
    pub(crate) fn maybe(self, name: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.put(name, value),
            None => self,
        }
    }

    /// Sets a list where it has items.
    #[must_use]
    pub(crate) fn list(self, name: &str, values: Vec<Value>) -> Self {
        if values.is_empty() { self } else { self.put(name, values) }
    }

    /// Sets a list of `{key, value}` where it has items.
    #[must_use]
    pub(crate) fn pairs(self, name: &str, pairs: &[(String, String)]) -> Self {
        self.list(name, pairs.iter().map(|(key, value)| json!({"key": key, "value": value})).collect())
    }

    pub(crate) fn into_value(self) -> Value {
        Value::Object(self.0)
    }
}

impl From<Message> for Value {
    fn from(message: Message) -> Self {
        message.into_value()
    }
}

/// A double as JSON: NaN as text, as proto3 asks; infinities never come out of the store.
pub(crate) fn double(value: f64) -> Value {
    if value.is_nan() { Value::from("NaN") } else { Value::from(stored_double(value)) }
}

/// [`double`], written at once.
pub(crate) fn as_double<S: serde::Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_nan() {
        serializer.serialize_str("NaN")
    } else {
        serializer.serialize_f64(stored_double(*value))
    }
}

/// A double as it is stored.
pub(crate) fn stored_double(value: f64) -> f64 {
    if value.is_infinite() { GREATEST.copysign(value) } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_doubles_read_as_mlflow_writes_them() {
        assert_eq!(double(f64::NAN), json!("NaN"));
        assert_eq!(double(f64::NEG_INFINITY), json!(-1.797_693_134_862_315_7e308));
        assert_eq!(Message::new().list("tags", vec![]).maybe("x", None::<i64>).into_value(), json!({}));
    }
}
