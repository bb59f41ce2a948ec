//! Values that fit a schema, and values that break it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::random::Random;
use super::schema::resolve;

/// Schemas within schemas end here.
const MAX_DEPTH: usize = 12;
const STRINGS: [&str; 9] = ["a", "x-1", "A b", "ä€😀", "../x", "0", "-", "a/b", "%41"];
const INTEGERS: [i64; 8] = [0, 1, 2, 3, 20, 100, 1_000, 2_147_483_647];
const NUMBERS: [f64; 7] = [0.0, 0.5, 1.0, 2.0, 30.0, 100.0, 1e12];

/// Makes values by schema and name.
#[derive(Debug)]
pub(super) struct Generator<'document> {
    pub(super) document: &'document Value,
    /// `method path`, for values that are known for one operation.
    pub(super) operation: String,
    pub(super) known: &'document BTreeMap<String, Vec<Value>>,
    pub(super) random: Random,
}

impl<'document> Generator<'document> {
    /// A value of the schema. `name` is that of the field or parameter.
    pub(super) fn valid(&mut self, schema: &Value, name: &str, depth: usize) -> Value {
        if let Some(known) = self.known_value(name) {
            return known;
        }
        let schema = resolve(self.document, schema);
        if let Some(values) = schema["enum"].as_array().filter(|values| !values.is_empty()) {
            return self.random.pick(values).clone();
        }
        if let Some(value) = schema.get("const") {
            return value.clone();
        }
        if let Some(parts) = schema["allOf"].as_array() {
            let mut fields = Map::new();
            for part in parts {
                if let Value::Object(more) = self.valid(part, "", depth + 1) {
                    fields.extend(more);
                }
            }
            return Value::Object(fields);
        }
        for key in ["oneOf", "anyOf"] {
            if let Some(parts) = schema[key].as_array() {
                let part = self.random.pick(parts).clone();
                return self.valid(&part, "", depth + 1);
            }
        }
        self.of_type(schema, depth)
    }

    fn known_value(&mut self, name: &str) -> Option<Value> {
        let own = format!("{} {name}", self.operation);
        let known = self.known.get(&own).or_else(|| self.below(name)).or_else(|| self.known.get(name))?;
        // Mostly what exists: the rest is generated.
        self.random.chance(75).then(|| self.random.pick(known).clone())
    }

    /// What is known of a name below the longest path that the operation's begins with.
    fn below(&self, name: &str) -> Option<&'document Vec<Value>> {
        let (_, path) = self.operation.split_once(' ')?;
        let scoped = self.known.iter().filter_map(|(key, values)| {
            let (scope, field) = key.rsplit_once(' ')?;
            (scope.starts_with('/') && field == name && path.starts_with(scope))
                .then_some((scope.len(), values))
        });
        scoped.max_by_key(|(length, _)| *length).map(|(_, values)| values)
    }

    fn of_type(&mut self, schema: &Value, depth: usize) -> Value {
        let kinds: Vec<&str> = match &schema["type"] {
            Value::String(kind) => vec![kind],
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            // Any JSON.
            _ => return self.random.pick(&[json!(1), json!("a"), json!({"a": [true, null]})]).clone(),
        };
        match *self.random.pick(&kinds) {
            "null" => Value::Null,
            "boolean" => Value::Bool(self.random.chance(50)),
            "integer" => {
                let least = schema["minimum"].as_i64().unwrap_or(i64::MIN);
                json!((*self.random.pick(&INTEGERS)).max(least))
            }
            "number" => json!(self.random.pick(&NUMBERS)),
            "string" if schema["format"] == "uuid" => json!("01890000-0000-7000-8000-000000000000"),
            "string" if schema["format"] == "date-time" => json!("2026-01-02T03:04:05Z"),
            "string" => json!(self.random.pick(&STRINGS)),
            "array" => {
                let length = if depth > MAX_DEPTH { 0 } else { self.random.below(3) };
                let items = &schema["items"];
                Value::Array((0..length).map(|_| self.valid(items, "", depth + 1)).collect())
            }
            _ => self.object(schema, depth),
        }
    }

    fn object(&mut self, schema: &Value, depth: usize) -> Value {
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut fields = Map::new();
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let is_required = required.contains(&name.as_str());
            if is_required || (depth < MAX_DEPTH && self.random.chance(40)) {
                fields.insert(name.clone(), self.valid(field, name, depth + 1));
            }
        }
        if schema["additionalProperties"].is_object() && self.random.chance(50) {
            let value = self.valid(&schema["additionalProperties"], "", depth + 1);
            fields.insert((*self.random.pick(&STRINGS)).to_owned(), value);
        }
        Value::Object(fields)
    }

    /// The value with one change, somewhere in it, that its schema hardly allows.
    pub(super) fn broken(&mut self, mut value: Value) -> Value {
        let replacement = match self.random.below(9) {
            0 => json!(null),
            1 => json!("text"),
            2 => json!("a\u{0}b"),
            3 => json!(-1),
            4 => json!(1.5e300),
            5 => json!(18_446_744_073_709_551_615_u64),
            6 => json!([[], {}]),
            7 => json!("x".repeat(5_000)),
            _ => json!({"unexpected": true}),
        };
        let at = self.somewhere(&mut value);
        match at {
            Value::Object(fields) if self.random.chance(30) => {
                let names: Vec<String> = fields.keys().cloned().collect();
                if !names.is_empty() {
                    fields.remove(self.random.pick(&names));
                }
            }
            Value::Object(fields) if self.random.chance(40) => {
                fields.insert("unexpected".to_owned(), replacement);
            }
            other => *other = replacement,
        }
        value
    }

    fn somewhere<'value>(&mut self, value: &'value mut Value) -> &'value mut Value {
        let length = match value {
            Value::Array(items) => items.len(),
            Value::Object(fields) => fields.len(),
            _ => 0,
        };
        if length == 0 || self.random.chance(25) {
            return value;
        }
        let chosen = self.random.below(length);
        let inner = match value {
            Value::Array(items) => items.get_mut(chosen),
            Value::Object(fields) => fields.values_mut().nth(chosen),
            _ => None,
        };
        self.somewhere(inner.expect("it has that many"))
    }
}
