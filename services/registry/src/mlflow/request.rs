//! Requests by the rules of proto3 JSON: either spelling of a field, numbers as strings, nulls and unknown fields ignored.

use std::collections::BTreeSet;

use axum::extract::{FromRequest, Request};
use http::{Method, header};
use serde_json::{Map, Value};

use crate::error::Error;

/// A JSON body may be this long: a dataset's profile alone may have 16 MiB.
const MAX_JSON_BODY_BYTES: usize = 32 * 1024 * 1024;

/// The fields of a message, from a JSON body or a query string.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fields {
    fields: Map<String, Value>,
    /// Length of the body; 0 for a query string.
    pub(crate) body_bytes: usize,
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Error;

    async fn from_request(mut request: Request, _state: &S) -> Result<Self, Error> {
        // The guard in front may have read the message to see what it is about.
        if let Some(read) = request.extensions_mut().remove::<Self>() {
            return Ok(read);
        }
        if request.method() == Method::GET || request.method() == Method::HEAD {
            return Ok(Self { fields: query_fields(request.uri().query().unwrap_or("")), body_bytes: 0 });
        }
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_json = content_type.is_none_or(|value| value.trim_start().starts_with("application/json"));
        let bytes =
            axum::body::to_bytes(request.into_body(), MAX_JSON_BODY_BYTES).await.map_err(|error| {
                Error::invalid(format!(
                    "The body could not be read or has more than {MAX_JSON_BODY_BYTES} bytes: {error}"
                ))
            })?;
        if !is_json && !bytes.is_empty() {
            return Err(Error::invalid("Bad Request. Content-Type must be one of ['application/json']."));
        }
        Self::from_json(&bytes)
    }
}

impl Fields {
    fn from_json(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let parsed: Value = serde_json::from_slice(bytes)
            .map_err(|error| Error::invalid(format!("The body is not valid JSON: {error}")))?;
        match parsed {
            // Old clients send the message as a JSON string within JSON.
            Value::String(text) => Self::from_json(text.as_bytes()),
            Value::Object(fields) => Ok(Self { fields, body_bytes: bytes.len() }),
            Value::Null => Ok(Self::default()),
            _ => Err(Error::invalid("The body has to be a JSON object")),
        }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        let found = self
            .fields
            .get(name)
            .or_else(|| name.contains('_').then(|| self.fields.get(&camel_case(name))).flatten());
        found.filter(|value| !value.is_null())
    }

    /// The texts of one field of the objects in a list, which stays as it is; read as [`Self::non_empty`] reads it.
    ///
    /// # Errors
    /// One of them is no string.
    pub(crate) fn peek(&self, list: &str, name: &str) -> Result<BTreeSet<String>, Error> {
        let objects = self.get(list).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let mut texts = BTreeSet::new();
        for object in objects.iter().filter_map(Value::as_object) {
            texts.extend(Self { fields: object.clone(), body_bytes: 0 }.non_empty(name)?);
        }
        Ok(texts)
    }

    /// A string; numbers and booleans count as their text.
    ///
    /// # Errors
    /// It is a list or an object.
    pub(crate) fn string(&self, name: &str) -> Result<Option<String>, Error> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(Value::Bool(flag)) => Ok(Some(flag.to_string())),
            Some(Value::Array(values)) if values.len() == 1 && values[0].is_string() => {
                Ok(values[0].as_str().map(str::to_owned))
            }
            Some(other) => Err(wrong_type(name, other, "a string")),
        }
    }

    /// A string that must be there and not empty.
    ///
    /// # Errors
    /// It is missing or no string.
    pub(crate) fn required(&self, name: &str) -> Result<String, Error> {
        self.string(name)?.filter(|text| !text.is_empty()).ok_or_else(|| Error::missing(name))
    }

    /// A string that counts as absent where it is empty.
    ///
    /// # Errors
    /// It is no string.
    pub(crate) fn non_empty(&self, name: &str) -> Result<Option<String>, Error> {
        Ok(self.string(name)?.filter(|text| !text.is_empty()))
    }

    /// The run's id, by its present or its old name.
    ///
    /// # Errors
    /// Both are missing.
    pub(crate) fn run_id(&self) -> Result<String, Error> {
        match self.non_empty("run_id")? {
            Some(run_id) => Ok(run_id),
            None => self.non_empty("run_uuid")?.ok_or_else(|| Error::missing("run_id")),
        }
    }

    /// A whole number, also in quotes.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, Error> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = match value {
            Value::Number(number) => number.as_i64().or_else(|| number.as_f64().and_then(whole)),
            Value::String(text) => text.trim().parse().ok(),
            Value::Array(values) if values.len() == 1 => {
                values[0].as_str().and_then(|text| text.parse().ok())
            }
            _ => None,
        };
        number.map(Some).ok_or_else(|| wrong_type(name, value, "an integer"))
    }

    /// A whole number that must be there.
    ///
    /// # Errors
    /// It is missing or something else.
    pub(crate) fn required_integer(&self, name: &str) -> Result<i64, Error> {
        self.integer(name)?.ok_or_else(|| Error::missing(name))
    }

    /// A number that must be there; NaN and the infinities come as text.
    ///
    /// # Errors
    /// It is missing or something else.
    pub(crate) fn required_double(&self, name: &str) -> Result<f64, Error> {
        let value = self.get(name).ok_or_else(|| Error::missing(name))?;
        let number = match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => match text.as_str() {
                "NaN" => Some(f64::NAN),
                "Infinity" => Some(f64::INFINITY),
                "-Infinity" => Some(f64::NEG_INFINITY),
                other => other.trim().parse().ok(),
            },
            _ => None,
        };
        number.ok_or_else(|| wrong_type(name, value, "a number"))
    }

    /// A truth value, also as text.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn boolean(&self, name: &str) -> Result<Option<bool>, Error> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(other) => Err(wrong_type(name, other, "a boolean")),
        }
    }

    /// A list of strings; a single one counts as a list, as it does in a query string.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn strings(&self, name: &str) -> Result<Vec<String>, Error> {
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text.clone()]),
            Some(Value::Array(values)) => values
                .iter()
                .map(|value| match value {
                    Value::String(text) => Ok(text.clone()),
                    Value::Number(number) => Ok(number.to_string()),
                    other => Err(wrong_type(name, other, "a list of strings")),
                })
                .collect(),
            Some(other) => Err(wrong_type(name, other, "a list of strings")),
        }
    }

    /// A message within this one; empty where absent.
    ///
    /// # Errors
    /// It is no object.
    pub(crate) fn message(&self, name: &str) -> Result<Self, Error> {
        match self.get(name) {
            None => Ok(Self::default()),
            Some(Value::Object(fields)) => Ok(Self { fields: fields.clone(), body_bytes: 0 }),
            Some(other) => Err(wrong_type(name, other, "an object")),
        }
    }

    /// A list of messages.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn messages(&mut self, name: &str) -> Result<Vec<Self>, Error> {
        let taken = self.fields.remove(name).or_else(|| self.fields.remove(&camel_case(name)));
        match taken {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(values)) => values
                .into_iter()
                .map(|value| match value {
                    Value::Object(fields) => Ok(Self { fields, body_bytes: 0 }),
                    other => Err(wrong_type(name, &other, "a list of objects")),
                })
                .collect(),
            Some(other) => Err(wrong_type(name, &other, "a list of objects")),
        }
    }

    /// A list of `{key, value}`; a missing value counts as empty.
    ///
    /// # Errors
    /// It is something else, or a key is missing.
    pub(crate) fn pairs(&mut self, name: &str) -> Result<Vec<(String, String)>, Error> {
        self.messages(name)?
            .iter()
            .map(|pair| Ok((pair.required("key")?, pair.string("value")?.unwrap_or_default())))
            .collect()
    }
}

fn wrong_type(name: &str, value: &Value, expected: &str) -> Error {
    Error::invalid(format!(
        "Invalid value {value} for parameter '{name}' supplied: Value must be {expected}."
    ))
}

fn whole(number: f64) -> Option<i64> {
    // Beyond 2^53 a float does not name one integer any more.
    (number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0).then_some(number as i64)
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let mut camel = words.next().unwrap_or("").to_owned();
    for word in words {
        let mut letters = word.chars();
        camel.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    camel
}

/// Repeated keys become a list.
fn query_fields(query: &str) -> Map<String, Value> {
    let mut fields = Map::new();
    let pairs: Vec<(String, String)> = axum::extract::Query::try_from_uri(&query_uri(query))
        .map(|axum::extract::Query(pairs)| pairs)
        .unwrap_or_default();
    for (key, value) in pairs {
        match fields.get_mut(&key) {
            None => {
                fields.insert(key, Value::String(value));
            }
            Some(Value::Array(values)) => values.push(Value::String(value)),
            Some(first) => {
                let before = first.take();
                *first = Value::Array(vec![before, Value::String(value)]);
            }
        }
    }
    fields
}

fn query_uri(query: &str) -> http::Uri {
    format!("/?{query}").parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: &Value) -> Fields {
        Fields::from_json(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn both_spellings_and_numbers_as_text_are_read() {
        let request =
            fields(&json!({"experimentId": 7, "max_results": "12", "value": "-Infinity", "tags": null}));
        assert_eq!(request.required("experiment_id").unwrap(), "7");
        assert_eq!(request.integer("max_results").unwrap(), Some(12));
        assert_eq!(request.required_double("value").unwrap(), f64::NEG_INFINITY);
        assert_eq!(request.string("tags").unwrap(), None);
    }

    #[test]
    fn refusals_have_the_texts_that_clients_know() {
        let request = fields(&json!({"name": "", "step": [1], "max_results": 1.5}));
        assert_eq!(
            request.required("name").unwrap_err().message,
            "Missing value for required parameter 'name'."
        );
        assert!(
            request
                .integer("step")
                .unwrap_err()
                .message
                .starts_with("Invalid value [1] for parameter 'step' supplied")
        );
        assert!(request.integer("max_results").is_err());
    }

    #[test]
    fn a_query_string_is_a_message_too() {
        let fields =
            Fields { fields: query_fields("order_by=a&order_by=b%20DESC&name=x+y%2Bz"), body_bytes: 0 };
        assert_eq!(fields.strings("order_by").unwrap(), ["a", "b DESC"]);
        assert_eq!(fields.required("name").unwrap(), "x y+z");
    }
}
