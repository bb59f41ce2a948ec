//! Requests by the rules of proto3 JSON: either spelling of a field, integers also as text, nulls and unknown
//! fields ignored. A value of another type than its field's is refused with MLflow's message.

mod typed;
mod values;

use std::collections::BTreeSet;

use axum::extract::{FromRequest, Request};
use http::{Method, header};
use serde_json::{Map, Value};
use slipway_http_server::json::{NUL_REFUSED, nul_in, nul_in_json};

use self::values::{camel_case, query_fields, wrong_type};
use super::error::Failure;

pub(crate) use self::typed::require_keys;

/// A JSON body may be this long: a dataset's profile alone may have 16 MiB.
const MAX_JSON_BODY_BYTES: usize = 32 * 1024 * 1024;

/// The fields of a message, from a JSON body or a query string.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fields {
    fields: Map<String, Value>,
    /// Length of the body; 0 for a query string.
    pub(crate) body_bytes: usize,
    /// Where this message stands in the request, e.g. `metrics[3].`; empty for the request itself.
    path: String,
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Failure;

    async fn from_request(mut request: Request, _state: &S) -> Result<Self, Failure> {
        // The guard in front may have read the message to see what it is about.
        if let Some(read) = request.extensions_mut().remove::<Self>() {
            return Ok(read);
        }
        if request.method() == Method::GET || request.method() == Method::HEAD {
            return Self::from_query(request.uri());
        }
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_json = content_type.is_none_or(|value| value.trim_start().starts_with("application/json"));
        let bytes =
            axum::body::to_bytes(request.into_body(), MAX_JSON_BODY_BYTES).await.map_err(|error| {
                Failure::invalid(format!(
                    "The body could not be read or has more than {MAX_JSON_BODY_BYTES} bytes: {error}"
                ))
            })?;
        if !is_json && !bytes.is_empty() {
            return Err(Failure::invalid("Bad Request. Content-Type must be one of ['application/json']."));
        }
        Self::from_json(&bytes)
    }
}

impl Fields {
    /// The fields of a query string, for a request whose body is something else than a message.
    pub(crate) fn of_query(uri: &http::Uri) -> Self {
        Self { fields: query_fields(uri.query().unwrap_or("")), ..Self::default() }
    }

    fn from_json(bytes: &[u8]) -> Result<Self, Failure> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        if let Some(field) = nul_in_json(bytes) {
            return Err(has_nul(&field));
        }
        let parsed: Value = serde_json::from_slice(bytes)
            .map_err(|error| Failure::invalid(format!("The body is not valid JSON: {error}")))?;
        match parsed {
            // Old clients send the message as a JSON string within JSON.
            Value::String(text) => Self::from_json(text.as_bytes()),
            Value::Object(fields) => Ok(Self { fields, body_bytes: bytes.len(), path: String::new() }),
            Value::Null => Ok(Self::default()),
            _ => Err(Failure::invalid("The body has to be a JSON object")),
        }
    }

    fn from_query(uri: &http::Uri) -> Result<Self, Failure> {
        let read = Self::of_query(uri);
        match read.fields.iter().find_map(|(name, value)| nul_in(value, name)) {
            Some(field) => Err(has_nul(&field)),
            None => Ok(read),
        }
    }

    /// A field that is there and not null.
    ///
    /// # Errors
    /// It is there in both spellings: a reader that checks one value must not act on the other.
    fn get(&self, name: &str) -> Result<Option<&Value>, Failure> {
        let camel = camel_case(name);
        let other = if camel == name { None } else { self.fields.get(&camel) };
        let found = match (self.fields.get(name), other) {
            (Some(_), Some(_)) => {
                return Err(Failure::invalid(format!(
                    "Request specifies both '{name}' and '{camel}'; provide only one of them."
                )));
            }
            (one, other) => one.or(other),
        };
        Ok(found.filter(|value| !value.is_null()))
    }

    /// The texts of one field of the objects in a list, which stays as it is; empty ones count as absent.
    ///
    /// # Errors
    /// One of them is no string.
    pub(crate) fn peek(&self, list: &str, name: &str) -> Result<BTreeSet<String>, Failure> {
        let objects = self.get(list)?.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let mut texts = BTreeSet::new();
        for object in objects.iter().filter_map(Value::as_object) {
            texts.extend(self.within(list, object.clone()).text(name)?.filter(|text| !text.is_empty()));
        }
        Ok(texts)
    }

    /// Only a query string has every value as text, or as a list of texts.
    fn is_query(&self) -> bool {
        self.body_bytes == 0
    }

    /// A message within this one; empty where absent.
    ///
    /// # Errors
    /// It is no object.
    pub(crate) fn message(&self, name: &str) -> Result<Self, Failure> {
        match self.get(name)? {
            None => Ok(Self::default()),
            Some(Value::Object(fields)) => Ok(self.within(name, fields.clone())),
            Some(other) => Err(self.wrong_type(name, other)),
        }
    }

    /// A list of messages.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn messages(&mut self, name: &str) -> Result<Vec<Self>, Failure> {
        self.get(name)?;
        let taken = self.fields.remove(name).or_else(|| self.fields.remove(&camel_case(name)));
        match taken {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(list @ Value::Array(_))
                if list.as_array().is_some_and(|all| all.iter().any(|one| !one.is_object())) =>
            {
                Err(self.wrong_type(name, &list))
            }
            Some(Value::Array(values)) => Ok(values
                .into_iter()
                .enumerate()
                .filter_map(|(index, value)| match value {
                    Value::Object(fields) => Some(self.within(&format!("{name}[{index}]"), fields)),
                    _ => None,
                })
                .collect()),
            Some(other) => Err(self.wrong_type(name, &other)),
        }
    }

    fn within(&self, name: &str, fields: Map<String, Value>) -> Self {
        Self { fields, body_bytes: self.body_bytes, path: format!("{}{name}.", self.path) }
    }

    /// The error of a field that must be there.
    pub(crate) fn missing(&self, name: &str) -> Failure {
        Failure::missing(&format!("{}{name}", self.path))
    }

    fn wrong_type(&self, name: &str, value: &Value) -> Failure {
        wrong_type(&format!("{}{name}", self.path), value)
    }
}

fn has_nul(field: &str) -> Failure {
    Failure::invalid(format!("Invalid value for parameter '{field}' supplied: {NUL_REFUSED}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::mlflow::error::SEE_DOCS;

    fn fields(value: &Value) -> Fields {
        Fields::from_json(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn both_spellings_and_numbers_as_text_are_read() {
        let request =
            fields(&json!({"experimentId": "7", "max_results": "12", "value": "-Infinity", "tags": null}));
        assert_eq!(request.required("experiment_id").unwrap(), "7");
        assert_eq!(request.integer("max_results").unwrap(), Some(12));
        assert_eq!(request.required_double("value").unwrap(), f64::NEG_INFINITY);
        assert_eq!(request.string("tags").unwrap(), None);
    }

    #[test]
    fn refusals_have_the_texts_that_clients_know() {
        let mut request = fields(&json!({
            "name": "", "step": [1], "max_results": 1.5, "run_id": 31, "tags": "5", "runName": "a",
                "run_name": "b",
            "stages": ["a", 5], "user_id": {"b": 1, "a": "ä"}
        }));
        let refusals = [
            (request.required("name").map(drop), "Missing value for required parameter 'name'."),
            (
                request.integer("step").map(drop),
                "Invalid value [1] for parameter 'step' supplied:  Hint: Value was of type 'list'.",
            ),
            (
                request.integer("max_results").map(drop),
                "Invalid value 1.5 for parameter 'max_results' supplied:  Hint: Value was of type 'float'.",
            ),
            (
                request.string("run_id").map(drop),
                "Invalid value 31 for parameter 'run_id' supplied:  Hint: Value was of type 'int'.",
            ),
            (
                request.string("user_id").map(drop),
                "Invalid value {\"a\":\"\\u00e4\",\"b\":1} for parameter 'user_id' supplied:  Hint: Value \
                 was of type 'dict'.",
            ),
            (
                request.strings("stages").map(drop),
                "Invalid value [\"a\",5] for parameter 'stages' supplied:  Hint: Value was of type 'list'.",
            ),
            (
                request.messages("tags").map(drop),
                "Invalid value \"5\" for parameter 'tags' supplied:  Hint: Value was of type 'str'.",
            ),
        ];
        for (refused, text) in refusals {
            assert_eq!(refused.unwrap_err().message, format!("{text} {SEE_DOCS}"));
        }
        assert_eq!(
            request.string("run_name").unwrap_err().message,
            "Request specifies both 'run_name' and 'runName'; provide only one of them."
        );
    }

    #[test]
    fn a_query_string_is_a_message_too() {
        let fields =
            Fields { fields: query_fields("order_by=a&order_by=b%20DESC&name=x+y%2Bz"), ..Fields::default() };
        assert_eq!(fields.strings("order_by").unwrap(), ["a", "b DESC"]);
        assert_eq!(fields.required("name").unwrap(), "x y+z");
    }
}
