//! Fields of a manifest. Each field is consumed once, so the unconsumed ones can be listed at the end.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use slipway_domain::Invalid;

/// A part of a manifest with its path.
#[derive(Debug)]
pub(crate) struct Fields {
    path: String,
    left: Map<String, Value>,
}

impl Fields {
    /// # Errors
    /// It is no object.
    pub(crate) fn of(path: impl Into<String>, value: Value) -> Result<Self, Invalid> {
        let path = path.into();
        match value {
            Value::Object(left) => Ok(Self { path, left }),
            other => Err(Invalid::new(path, format!("expected an object, got `{other}`"))),
        }
    }

    /// Path of a field.
    pub(crate) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// A complaint about a field.
    pub(crate) fn invalid(&self, name: &str, message: impl Into<String>) -> Invalid {
        Invalid::new(self.path_of(name), message)
    }

    /// Takes a field; `None` where it is absent or null.
    ///
    /// # Errors
    /// It has another type.
    pub(crate) fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Invalid> {
        let value = self.left.remove(name).filter(|value| !value.is_null());
        let typed = value.map(|value| T::deserialize(&value).map_err(|error| (value, error))).transpose();
        typed.map_err(|wrong| {
            let (value, error) = wrong;
            self.invalid(name, format!("got `{value}`: {error}"))
        })
    }

    /// Takes a field that is an object of fields; one without any where it is absent.
    ///
    /// # Errors
    /// It is no object.
    pub(crate) fn object(&mut self, name: &str) -> Result<Self, Invalid> {
        let value = self.left.remove(name).filter(|value| !value.is_null());
        Self::of(self.path_of(name), value.unwrap_or_else(|| Value::Object(Map::new())))
    }

    /// Takes a field that is a list of objects; an empty one where it is absent.
    ///
    /// # Errors
    /// It is no list of objects.
    pub(crate) fn objects(&mut self, name: &str) -> Result<Vec<Self>, Invalid> {
        let values: Vec<Value> = self.take(name)?.unwrap_or_default();
        let path = self.path_of(name);
        let object = |(index, value): (usize, Value)| Self::of(format!("{path}[{index}]"), value);
        values.into_iter().enumerate().map(object).collect()
    }

    /// Takes a field that has texts by name; an empty one where it is absent.
    ///
    /// # Errors
    /// It has another type.
    pub(crate) fn take_map(&mut self, name: &str) -> Result<BTreeMap<String, String>, Invalid> {
        Ok(self.take(name)?.unwrap_or_default())
    }

    /// A field that is a text, which is not taken.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.left.get(name)?.as_str()
    }

    /// Its own path.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Leaves fields out that say nothing about the job.
    pub(crate) fn ignore(&mut self, names: &[&str]) {
        for name in names {
            self.left.remove(*name);
        }
    }

    /// Names of what is left.
    pub(crate) fn names(&self) -> Vec<String> {
        self.left.keys().cloned().collect()
    }

    /// Adds the paths of what is left.
    pub(crate) fn drop_into(self, dropped: &mut Vec<String>) {
        let paths =
            self.left.iter().filter(|(_, value)| !is_empty(value)).map(|(name, _)| self.path_of(name));
        dropped.extend(paths);
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}
