//! The requests of an operation.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::Operation;
use super::generate::Generator;
use super::random::Random;

const JSON: &str = "application/json";
/// Segments of a path, percent-encoded, that name nothing or are not valid.
const ODD_SEGMENTS: [&str; 9] =
    ["absent", "-1", "0", "%00", "%FF", "a%2Fb", "%2E%2E%2Fx", "99999999999999999999", "%F0%9F%98%80"];
const ODD_QUERY_VALUES: [&str; 7] = ["", "-1", "abc", "99999999999999999999", "%00", "%FF", "true"];
/// Bodies that are not the JSON of any schema.
const ODD_BODIES: [&str; 8] = ["", "{", "null", "[]", "\"a\"", "{\"a\":1}{", "{\"a\": 1e999}", "\u{feff}{}"];

/// A request.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) method: String,
    /// Path and query string.
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Option<String>,
}

impl Case {
    /// The request as a command.
    pub(super) fn curl(&self, base: &str) -> String {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
        let mut line = format!("curl -i -X {} {}", self.method, quoted(&format!("{base}{}", self.target)));
        for (name, value) in &self.headers {
            let _ = write!(line, " -H {}", quoted(&format!("{name}: {value}")));
        }
        if let Some(body) = &self.body {
            let shown: String = body.chars().take(1_500).collect();
            let _ = write!(line, " --data-binary {}", quoted(&shown));
        }
        line
    }
}

/// Requests, valid and invalid by turns.
pub(super) struct Cases<'document> {
    operation: Operation<'document>,
    generator: Generator<'document>,
    number: usize,
}

impl<'document> Cases<'document> {
    pub(super) fn new(
        operation: Operation<'document>,
        known: &'document BTreeMap<String, Vec<Value>>,
    ) -> Self {
        let name = operation.name();
        let random = Random::of(&name);
        let generator = Generator { document: operation.document, operation: name, known, random };
        Self { operation, generator, number: 0 }
    }

    fn parameters(&self, place: &str) -> Vec<&'document Value> {
        let all = self.operation.described["parameters"].as_array().into_iter().flatten();
        all.filter(|parameter| parameter["in"] == place).collect()
    }

    fn target(&mut self, breaks: bool) -> String {
        let mut target = self.operation.path.to_owned();
        for parameter in self.parameters("path") {
            let name = parameter["name"].as_str().unwrap_or_default();
            let segment = if breaks && self.generator.random.chance(50) {
                (*self.generator.random.pick(&ODD_SEGMENTS)).to_owned()
            } else {
                encoded(&plain(&self.generator.valid(&parameter["schema"], name, 0)))
            };
            target = target.replace(&format!("{{{name}}}"), &segment);
        }
        let mut pairs = Vec::new();
        for parameter in self.parameters("query") {
            let name = parameter["name"].as_str().unwrap_or_default();
            if parameter["required"] != true && self.generator.random.chance(50) {
                continue;
            }
            if breaks && self.generator.random.chance(60) {
                pairs.push(format!("{name}={}", self.generator.random.pick(&ODD_QUERY_VALUES)));
                continue;
            }
            match self.generator.valid(&parameter["schema"], name, 0) {
                Value::Null => {}
                value => pairs.push(format!("{name}={}", encoded(&plain(&value)))),
            }
        }
        if !pairs.is_empty() {
            target = format!("{target}?{}", pairs.join("&"));
        }
        target
    }

    fn headers(&mut self) -> Vec<(String, String)> {
        let mut headers = Vec::new();
        for parameter in self.parameters("header") {
            let name = parameter["name"].as_str().unwrap_or_default();
            if parameter["required"] != true && self.generator.random.chance(70) {
                continue;
            }
            let value = plain(&self.generator.valid(&parameter["schema"], name, 0));
            if value.bytes().all(|byte| byte.is_ascii_graphic()) && !value.is_empty() {
                headers.push((name.to_owned(), value));
            }
        }
        headers
    }

    fn body(&mut self, breaks: bool) -> Option<String> {
        let content = self.operation.described["requestBody"]["content"].as_object()?;
        let schema = &content.get(JSON)?["schema"];
        if breaks && self.generator.random.chance(25) {
            return Some((*self.generator.random.pick(&ODD_BODIES)).to_owned());
        }
        let valid = self.generator.valid(schema, "", 0);
        Some(if breaks { self.generator.broken(valid) } else { valid }.to_string())
    }
}

impl Iterator for Cases<'_> {
    type Item = Case;

    fn next(&mut self) -> Option<Case> {
        let breaks = self.number % 2 == 1;
        self.number += 1;
        // An invalid request is wrong in its address, its body, or both.
        let breaks_target = breaks && self.generator.random.chance(60);
        let body = self.body(breaks);
        let mut headers = self.headers();
        if body.is_some() {
            let odd = breaks && self.generator.random.chance(10);
            headers.push(("content-type".to_owned(), if odd { "text/plain" } else { JSON }.to_owned()));
        }
        Some(Case {
            method: self.operation.method.to_uppercase(),
            target: self.target(breaks_target || (breaks && body.is_none())),
            headers,
            body,
        })
    }
}

/// A value as it is in a path or query string.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Percent-encoded; an empty text would be another path.
fn encoded(text: &str) -> String {
    let text = if text.is_empty() { "-" } else { text };
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) || (byte == b'.' && text.len() > 2) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
