//! An OpenAPI document as a page: operations with their parameters, bodies and a curl example. The page has
//! no scripts and loads nothing.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];
/// References within references end here: a schema may contain itself.
const MAX_DEPTH: usize = 8;
const STYLE: &str = include_str!("page.css");

/// An OpenAPI document as one HTML page. Texts of the document are escaped.
pub(crate) fn page(document: &Value) -> String {
    let title = escape(document["info"]["title"].as_str().unwrap_or_default());
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style></head><body><h1>{title} <small>{}</small></h1><p>{}</p>\
         <p><a href=\"openapi.json\">openapi.json</a></p>",
        escape(document["info"]["version"].as_str().unwrap_or_default()),
        prose(document["info"]["description"].as_str().unwrap_or_default()),
    );
    let tags = tags(document);
    page.push_str("<nav>");
    for tag in &tags {
        let _ = write!(page, "<a href=\"#{0}\">{0}</a>", escape(tag));
    }
    page.push_str("</nav>");
    for tag in &tags {
        let _ = write!(page, "<h2 id=\"{0}\">{0}</h2>", escape(tag));
        for (path, method, operation) in
            operations(document).filter(|(.., found)| tag_of(found) == tag.as_str())
        {
            write_operation(&mut page, document, path, method, operation);
        }
    }
    page.push_str("<h2 id=\"schemas\">schemas</h2>");
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        let _ = write!(page, "<details id=\"schema-{0}\"><summary><code>{0}</code></summary>", escape(name));
        write_schema(&mut page, schema);
        page.push_str("</details>");
    }
    page.push_str("</body></html>");
    page
}

/// Text as HTML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A doc comment as HTML: what stands between backticks is code.
fn prose(text: &str) -> String {
    let mut html = String::new();
    for (index, part) in text.split('`').enumerate() {
        let part = escape(part);
        let _ = if index % 2 == 1 { write!(html, "<code>{part}</code>") } else { write!(html, "{part}") };
    }
    html
}

fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    document["paths"].as_object().into_iter().flatten().flat_map(|(path, item)| {
        METHODS.iter().filter_map(move |method| Some((path.as_str(), *method, item.get(method)?)))
    })
}

fn tag_of(operation: &Value) -> &str {
    operation["tags"][0].as_str().unwrap_or("other")
}

fn tags(document: &Value) -> Vec<String> {
    let mut tags: Vec<String> = Vec::new();
    for (.., operation) in operations(document) {
        if !tags.iter().any(|tag| tag == tag_of(operation)) {
            tags.push(tag_of(operation).to_owned());
        }
    }
    tags.sort();
    tags
}

fn write_operation(page: &mut String, document: &Value, path: &str, method: &str, operation: &Value) {
    let text = |name: &str| operation[name].as_str().unwrap_or_default();
    let _ = write!(
        page,
        "<details id=\"{}\"><summary><b class=\"m {method}\">{method}</b><code>{}</code>\
         <span>{}</span></summary>",
        escape(text("operationId")),
        escape(path),
        prose(text("summary")),
    );
    if !text("description").is_empty() {
        let _ = write!(page, "<p>{}</p>", prose(text("description")));
    }
    write_parameters(page, operation);
    let body = json_of(&operation["requestBody"]["content"]);
    if let Some(schema) = body {
        page.push_str("<h4>Body</h4>");
        write_schema(page, schema);
    }
    page.push_str("<h4>Responses</h4><table>");
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        let kinds: Vec<String> = response["content"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(kind, content)| format!("{} <code>{}</code>", kind_of(&content["schema"]), escape(kind)))
            .collect();
        let about = prose(response["description"].as_str().unwrap_or_default());
        let _ = write!(
            page,
            "<tr><td><code>{status}</code></td><td>{}</td><td>{about}</td></tr>",
            kinds.join("<br>")
        );
    }
    page.push_str("</table><h4>Example</h4>");
    let _ = write!(page, "<pre>{}</pre></details>", escape(&curl(document, path, method, body)));
}

fn write_parameters(page: &mut String, operation: &Value) {
    let Some(parameters) = operation["parameters"].as_array().filter(|all| !all.is_empty()) else { return };
    page.push_str("<h4>Parameters</h4><table>");
    for parameter in parameters {
        let text = |name: &str| parameter[name].as_str().unwrap_or_default();
        let _ = write!(
            page,
            "<tr><td><code>{}</code></td><td>{}</td><td>{}{}</td><td>{}</td></tr>",
            escape(text("name")),
            escape(text("in")),
            kind_of(&parameter["schema"]),
            if parameter["required"] == true { "" } else { ", optional" },
            prose(text("description")),
        );
    }
    page.push_str("</table>");
}

fn json_of(content: &Value) -> Option<&Value> {
    content.as_object()?.iter().find(|(kind, _)| kind.contains("json")).map(|(_, body)| &body["schema"])
}

/// A schema's fields as a table; a schema without fields in one line.
fn write_schema(page: &mut String, schema: &Value) {
    if let Some(about) = schema["description"].as_str() {
        let _ = write!(page, "<p>{}</p>", prose(about));
    }
    for part in ["allOf", "oneOf", "anyOf"].iter().filter_map(|name| schema[*name].as_array()).flatten() {
        write_schema(page, part);
    }
    let Some(fields) = schema["properties"].as_object() else {
        if schema.get("allOf").or(schema.get("oneOf")).is_none() {
            let _ = write!(page, "<p>{}</p>", kind_of(schema));
        }
        return;
    };
    let required = schema["required"].as_array();
    page.push_str("<table>");
    for (name, field) in fields {
        let optional = !required.is_some_and(|names| names.iter().any(|other| other == name));
        let _ = write!(
            page,
            "<tr><td><code>{}</code></td><td>{}{}</td><td>{}</td></tr>",
            escape(name),
            kind_of(field),
            if optional { ", optional" } else { "" },
            prose(field["description"].as_str().unwrap_or_default()),
        );
    }
    page.push_str("</table>");
}

/// What a schema takes, in a few words of HTML.
fn kind_of(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        let name = escape(name);
        return format!("<a href=\"#schema-{name}\">{name}</a>");
    }
    if let Some(values) = schema["enum"].as_array() {
        let words: Vec<String> =
            values.iter().map(|value| format!("<code>{}</code>", escape(&value.to_string()))).collect();
        return words.join(" or ");
    }
    if let Some(parts) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
        let words: Vec<String> = parts.iter().filter(|part| part["type"] != "null").map(kind_of).collect();
        return words.join(" or ");
    }
    match &schema["type"] {
        Value::String(name) if name == "array" => format!("list of {}", kind_of(&schema["items"])),
        Value::String(name) if name == "object" && schema["additionalProperties"].is_object() => {
            format!("map of {}", kind_of(&schema["additionalProperties"]))
        }
        Value::String(name) => escape(name),
        Value::Array(names) if names.iter().any(|name| name == "array") => {
            format!("list of {}", kind_of(&schema["items"]))
        }
        Value::Array(names) => {
            let names = names.iter().filter_map(Value::as_str).filter(|name| *name != "null");
            names.collect::<Vec<&str>>().join(" or ")
        }
        _ => "anything".to_owned(),
    }
}

fn curl(document: &Value, path: &str, method: &str, body: Option<&Value>) -> String {
    let path = path.replace('{', "<").replace('}', ">");
    let server = document["servers"][0]["url"].as_str().unwrap_or("http://127.0.0.1:5000");
    let verb = if method == "get" { String::new() } else { format!(" -X {}", method.to_uppercase()) };
    let mut line = format!("curl{verb} '{server}{path}'");
    if let Some(schema) = body {
        let text = example(document, schema, 0).to_string().replace('\'', "'\\''");
        let _ = write!(line, " \\\n  -H 'content-type: application/json' \\\n  -d '{text}'");
    }
    line
}

/// A value that fits a schema; required fields and those with examples.
fn example(document: &Value, schema: &Value, depth: usize) -> Value {
    if depth > MAX_DEPTH {
        return Value::Null;
    }
    if let Some(example) =
        schema.get("example").or_else(|| schema["examples"].get(0)).or_else(|| schema.get("default"))
    {
        return example.clone();
    }
    if let Some(target) =
        schema["$ref"].as_str().and_then(|path| document.pointer(path.trim_start_matches('#')))
    {
        return example(document, target, depth + 1);
    }
    if let Some(first) = ["oneOf", "anyOf"]
        .iter()
        .filter_map(|name| schema[*name].as_array())
        .flatten()
        .find(|part| part["type"] != "null")
    {
        return example(document, first, depth + 1);
    }
    if let Some(value) = schema["enum"].get(0) {
        return value.clone();
    }
    let mut fields = Map::new();
    for part in schema["allOf"].as_array().into_iter().flatten() {
        if let Value::Object(part) = example(document, part, depth + 1) {
            fields.extend(part);
        }
    }
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        if required.contains(&name.as_str()) || field.get("example").is_some() {
            fields.insert(name.clone(), example(document, field, depth + 1));
        }
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str()).unwrap_or("object");
    match kind {
        "string" => json!("…"),
        "integer" | "number" => json!(1),
        "boolean" => json!(true),
        "array" => json!([example(document, &schema["items"], depth + 1)]),
        _ => Value::Object(fields),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_document_says_is_shown_as_text() {
        let document = json!({"info": {"title": "<b>"}, "paths": {"/a/{b}": {"post": {
            "tags": ["t"], "summary": "Says `x`", "operationId": "a",
            "requestBody": {"content": {"application/json": {
                "schema": {"$ref": "#/components/schemas/Body"}}}},
            "responses": {}}}},
            "components": {"schemas": {"Body": {"type": "object", "required": ["name"], "properties": {
                "name": {"type": "string", "example": "it's"}, "other": {"type": "integer"}}}}}});
        let page = page(&document);
        assert!(page.contains("&lt;b&gt;") && !page.contains("<b>"), "{page}");
        assert!(page.contains("Says <code>x</code>"));
        assert!(page.contains("curl -X POST 'http://127.0.0.1:5000/a/&lt;b&gt;'"), "{page}");
        assert!(page.contains(r#"-d '{&quot;name&quot;:&quot;it'\''s&quot;}'"#), "{page}");
    }
}
