//! The fields of a message, read as the types that they have.

use serde_json::Value;

use super::Fields;
use super::values::{compact, text_of, whole};
use crate::api::mlflow::error::Failure;

impl Fields {
    /// A string. Of a repeated parameter in a query string the first one counts.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn string(&self, name: &str) -> Result<Option<String>, Failure> {
        match self.get(name)? {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Array(values)) if self.is_query() => Ok(values.first().and_then(text_of)),
            Some(other) => Err(self.wrong_type(name, other)),
        }
    }

    /// A string; numbers and booleans count as their text. MLflow's own server drops such values of
    /// `{key, value}` silently.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Failure> {
        match self.get(name)? {
            None => Ok(None),
            Some(value) => text_of(value).map(Some).ok_or_else(|| self.wrong_type(name, value)),
        }
    }

    /// The name of a value of an enumeration: given by name, or by number from `first` on.
    ///
    /// # Errors
    /// It is neither.
    pub(crate) fn one_of(
        &self,
        name: &str,
        first: usize,
        names: &[&'static str],
    ) -> Result<Option<&'static str>, Failure> {
        let Some(asked) = self.text(name)?.filter(|asked| !asked.is_empty()) else { return Ok(None) };
        let by_number = || names.get(asked.parse::<usize>().ok()?.checked_sub(first)?);
        let found = names.iter().find(|known| **known == asked).or_else(by_number).copied();
        found.map(Some).ok_or_else(|| {
            Failure::invalid(format!(
                "Invalid value {} for parameter '{}{name}' supplied: expected one of {}",
                compact(&Value::from(asked)),
                self.path,
                names.join(", ")
            ))
        })
    }

    /// A string that must be there and not empty.
    ///
    /// # Errors
    /// It is missing or no string.
    pub(crate) fn required(&self, name: &str) -> Result<String, Failure> {
        self.string(name)?.filter(|text| !text.is_empty()).ok_or_else(|| self.missing(name))
    }

    /// A string that counts as absent where it is empty.
    ///
    /// # Errors
    /// It is no string.
    pub(crate) fn non_empty(&self, name: &str) -> Result<Option<String>, Failure> {
        Ok(self.string(name)?.filter(|text| !text.is_empty()))
    }

    /// The run's id, by its present or its old name.
    ///
    /// # Errors
    /// Both are missing.
    pub(crate) fn run_id(&self) -> Result<String, Failure> {
        match self.non_empty("run_id")? {
            Some(run_id) => Ok(run_id),
            None => self.non_empty("run_uuid")?.ok_or_else(|| self.missing("run_id")),
        }
    }

    /// A whole number, also in quotes.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, Failure> {
        let Some(value) = self.get(name)? else { return Ok(None) };
        let number = match value {
            Value::Number(number) => number.as_i64().or_else(|| number.as_f64().and_then(whole)),
            Value::String(text) => text.trim().parse().ok(),
            Value::Array(values) if self.is_query() => {
                values.first().and_then(Value::as_str).and_then(|text| text.trim().parse().ok())
            }
            _ => None,
        };
        number.map(Some).ok_or_else(|| self.wrong_type(name, value))
    }

    /// A whole number that must be there.
    ///
    /// # Errors
    /// It is missing or something else.
    pub(crate) fn required_integer(&self, name: &str) -> Result<i64, Failure> {
        match self.get(name)?.filter(|value| *value != "") {
            Some(_) => self.integer(name)?.ok_or_else(|| self.missing(name)),
            None => Err(self.missing(name)),
        }
    }

    /// A number that must be there; NaN and the infinities come as text.
    ///
    /// # Errors
    /// It is missing or something else.
    pub(crate) fn required_double(&self, name: &str) -> Result<f64, Failure> {
        let value = self.get(name)?.filter(|value| *value != "").ok_or_else(|| self.missing(name))?;
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
        number.ok_or_else(|| self.wrong_type(name, value))
    }

    /// A truth value, also as text.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn boolean(&self, name: &str) -> Result<Option<bool>, Failure> {
        match self.get(name)? {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(other) => Err(self.wrong_type(name, other)),
        }
    }

    /// Whether a deletion is forced: `force=true` in its query string, or `"force": true` in its body. MLflow
    /// has no such field.
    ///
    /// # Errors
    /// The field is no truth value.
    pub(crate) fn is_forced(&self, query: Option<&str>) -> Result<bool, Failure> {
        let in_query = query.is_some_and(|query| query.split('&').any(|pair| pair == "force=true"));
        Ok(in_query || self.boolean("force")?.unwrap_or(false))
    }

    /// A field that must be there, whatever it holds.
    ///
    /// # Errors
    /// It is missing.
    pub(crate) fn is_given(&self, name: &str) -> Result<(), Failure> {
        self.get(name)?.map(drop).ok_or_else(|| self.missing(name))
    }

    /// A list of strings; in a query string a single one is a list, too.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn strings(&self, name: &str) -> Result<Vec<String>, Failure> {
        match self.get(name)? {
            None => Ok(Vec::new()),
            Some(Value::String(text)) if self.is_query() => Ok(vec![text.clone()]),
            Some(list @ Value::Array(values)) => {
                let texts = values.iter().map(|value| value.as_str().map(str::to_owned));
                texts.collect::<Option<_>>().ok_or_else(|| self.wrong_type(name, list))
            }
            Some(other) => Err(self.wrong_type(name, other)),
        }
    }

    /// A list of `{key, value}`; a missing key or value counts as empty.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn pairs(&mut self, name: &str) -> Result<Vec<(String, String)>, Failure> {
        self.messages(name)?
            .iter()
            .map(|pair| Ok((pair.text("key")?.unwrap_or_default(), pair.text("value")?.unwrap_or_default())))
            .collect()
    }
}

/// Every key is there; `list` is where they stand in the request.
///
/// # Errors
/// One is empty.
pub(crate) fn require_keys(list: &str, pairs: &[(String, String)]) -> Result<(), Failure> {
    match pairs.iter().position(|(key, _)| key.is_empty()) {
        None => Ok(()),
        Some(index) => Err(Failure::missing(&format!("{list}[{index}].key"))),
    }
}
