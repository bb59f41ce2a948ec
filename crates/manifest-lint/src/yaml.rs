//! YAML with positions, as far as manifests use it.

use std::collections::{BTreeMap, HashMap};

use granit_parser::{Event, Marker, Parser, ScalarStyle, StrInput};

use crate::Position;

const MAX_DEPTH: usize = 200;
/// Parts of a file, those of aliases counted where they are used.
const MAX_PARTS: usize = 1_000_000;

/// A part of a document.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) position: Position,
    pub(crate) value: Value,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// A number, with its text.
    Number(f64, String),
    String(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A field with its name.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// Of the name.
    pub(crate) position: Position,
    pub(crate) node: Node,
}

impl Node {
    /// A field of a map.
    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|entry| entry.name == name).map(|entry| &entry.node)
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// What it is, with the value where that is short.
    pub(crate) fn shown(&self) -> String {
        match &self.value {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => format!("boolean {value}"),
            Value::Number(_, text) => format!("number {text}"),
            Value::String(text) => format!("string {text:?}"),
            Value::List(_) => "an array".to_owned(),
            Value::Map(_) => "an object".to_owned(),
        }
    }
}

/// All documents that are not empty, up to the first syntax error.
pub(crate) fn documents(text: &str, refuse: &mut dyn FnMut(Position, String)) -> Vec<Node> {
    let options = granit_parser::options! { emit_comments: false };
    let parser = Parser::new_from_str_with_options(text, options);
    let mut reader = Reader { parser, anchors: HashMap::new(), parts: 0, refuse };
    let mut documents = Vec::new();
    loop {
        match reader.next() {
            Ok((Event::StreamEnd, _)) => return documents,
            Ok((Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd, _)) => {}
            Ok((event, position)) => match reader.node(event, position, 0) {
                Ok(Node { value: Value::Null, .. }) => {}
                Ok(node) => documents.push(node),
                Err((position, message)) => {
                    (reader.refuse)(position, message);
                    return documents;
                }
            },
            Err((position, message)) => {
                (reader.refuse)(position, message);
                return documents;
            }
        }
    }
}

type Refusal = (Position, String);

struct Reader<'text, 'refuse> {
    parser: Parser<'text, StrInput<'text>>,
    anchors: HashMap<usize, (Node, usize)>,
    parts: usize,
    refuse: &'refuse mut dyn FnMut(Position, String),
}

fn place(marker: &Marker) -> Position {
    Position { line: marker.line().max(1), column: marker.col() + 1 }
}

impl<'text> Reader<'text, '_> {
    fn next(&mut self) -> Result<(Event<'text>, Position), Refusal> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, place(&span.start))),
            Some(Err(error)) => Err((place(error.marker()), format!("not YAML: {}", error.info()))),
            None => Ok((Event::StreamEnd, Position { line: 1, column: 1 })),
        }
    }

    fn node(&mut self, event: Event<'text>, position: Position, depth: usize) -> Result<Node, Refusal> {
        self.parts += 1;
        if depth > MAX_DEPTH || self.parts > MAX_PARTS {
            let message = format!("nested more than {MAX_DEPTH} deep, or more than {MAX_PARTS} parts");
            return Err((position, message));
        }
        let before = self.parts;
        let anchor = event.anchor_id();
        let value = match event {
            Event::Scalar(text, style, _, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                if plain { resolved(&text) } else { Value::String(text.into_owned()) }
            }
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break Value::List(items),
                        (inner, position) => items.push(self.node(inner, position, depth + 1)?),
                    }
                }
            }
            Event::MappingStart(..) => Value::Map(self.entries(depth)?),
            Event::Alias(anchor) => {
                let Some((node, parts)) = self.anchors.get(&anchor).cloned() else {
                    return Err((position, "an alias within its own anchor".to_owned()));
                };
                self.parts += parts;
                return Ok(Node { position, ..node });
            }
            other => return Err((position, format!("unexpected {other:?}"))),
        };
        let node = Node { position, value };
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, (node.clone(), self.parts - before));
        }
        Ok(node)
    }

    fn entries(&mut self, depth: usize) -> Result<Vec<Entry>, Refusal> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut lines: BTreeMap<String, usize> = BTreeMap::new();
        loop {
            let (name, position) = match self.next()? {
                (Event::MappingEnd, _) => return Ok(entries),
                (Event::Scalar(name, ..), position) => (name.into_owned(), position),
                (_, position) => return Err((position, "a field has no name that is a string".to_owned())),
            };
            let (event, value_position) = self.next()?;
            let node = self.node(event, value_position, depth + 1)?;
            if let Some(first) = lines.insert(name.clone(), position.line) {
                (self.refuse)(position, format!("field `{name}` is repeated; it is first on line {first}"));
                continue;
            }
            match (name.as_str(), node.value) {
                // Merge keys: fields that are there already take precedence.
                ("<<", Value::Map(merged)) => entries.extend(merged),
                (_, value) => {
                    let node = Node { position: node.position, value };
                    entries.retain(|entry| entry.name != name);
                    entries.push(Entry { name, position, node });
                }
            }
        }
    }
}

/// The value of a scalar without quotes, as kubectl reads it.
fn resolved(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.trim_start_matches(['+', '-']);
    let integer = match digits.get(..2) {
        Some("0x") => i64::from_str_radix(&digits[2..], 16).ok(),
        Some("0o") => i64::from_str_radix(&digits[2..], 8).ok(),
        _ => None,
    };
    let looks_like_a_number = digits.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && digits.chars().all(|sign| sign.is_ascii_digit() || matches!(sign, '.' | 'e' | 'E' | '+' | '-'));
    let number = match integer {
        Some(integer) => integer.to_string().parse().ok(),
        None if looks_like_a_number => text.parse::<f64>().ok(),
        None => None,
    };
    number.map_or_else(|| Value::String(text.to_owned()), |number| Value::Number(number, text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<Node>, Vec<(Position, String)>) {
        let mut refused = Vec::new();
        let documents = documents(text, &mut |position, message| refused.push((position, message)));
        (documents, refused)
    }

    #[test]
    fn parts_have_positions_and_empty_documents_are_left_out() {
        let (documents, refused) = read("# a\n---\na:\n  b: [1, x]\n---\n---\nc: true\n");
        assert!(refused.is_empty(), "{refused:?}");
        assert_eq!(documents.len(), 2);
        let list = documents[0].get("a").unwrap().get("b").unwrap();
        assert_eq!(list.position, Position { line: 4, column: 6 });
        let Value::List(items) = &list.value else { panic!("{list:?}") };
        assert_eq!(items[1].position, Position { line: 4, column: 10 });
        assert_eq!(documents[1].position, Position { line: 7, column: 1 });
    }

    #[test]
    fn syntax_errors_and_repeated_fields_have_positions() {
        let (documents, refused) = read("a: 1\n---\nb: [1\nc: 2\n");
        assert_eq!(documents.len(), 1);
        assert!(refused[0].0.line >= 3 && refused[0].1.starts_with("not YAML: "), "{refused:?}");
        let (_, refused) = read("a: 1\nb: 2\na: 3\n");
        let expected = "field `a` is repeated; it is first on line 1".to_owned();
        assert_eq!(refused, [(Position { line: 3, column: 1 }, expected)]);
    }

    #[test]
    fn scalars_are_what_kubectl_reads() {
        for text in ["1", "-2", "1.5", "1e3", "0x1F", ".5"] {
            assert!(matches!(resolved(text), Value::Number(..)), "{text}");
        }
        for text in ["1Gi", "500m", "1.2.3", "yes", "-", "2026-12-01", "e3", "nan"] {
            assert!(matches!(resolved(text), Value::String(_)), "{text}");
        }
        assert!(matches!(resolved("~"), Value::Null) && matches!(resolved("true"), Value::Bool(true)));
    }

    #[test]
    fn aliases_do_not_expand_without_bound() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let inner = level - 1;
            let inner = vec![format!("*a{inner}"); 10].join(", ");
            text += &format!("a{level}: &a{level} [{inner}]\n");
        }
        assert!(read(&text).1[0].1.contains("more than"));
    }
}
