//! Documents of YAML. Python's reader follows YAML 1.1 and can make any object by a tag, so every tag beyond
//! those of plain data is refused, and so is what the two versions of YAML read differently.

use std::{collections::HashMap, io};

use granit_parser::{Event, Parser, ScalarStyle, StrInput, Tag};

use super::{
    marks, odd_line_end, read_text,
    tree::{Budget, Tree},
};
use crate::{
    input::Input,
    path,
    report::Code,
    scanner::{Place, Scanner},
};

/// Collections within collections.
const MAX_DEPTH: usize = 100;
/// Tags of plain data, behind `tag:yaml.org,2002:`.
const PLAIN_TAGS: &[&str] =
    &["str", "int", "float", "bool", "null", "map", "seq", "timestamp", "set", "omap", "pairs", "binary"];
const TAG_PREFIX: &str = "tag:yaml.org,2002:";
/// Text that stands in the tags of Python and in nothing else that a model's document has.
const PYTHON_TAGS: &[&str] =
    &["!!python", "!!py", "2002:python", "2002:py", "python/object", "python/name", "python/module"];

/// Why a document is refused.
type Refusal = (Code, String);

/// Reads any document of YAML.
pub(super) fn scan(scanner: &mut Scanner<'_>, input: &mut Input<'_>, place: Place<'_>) -> io::Result<()> {
    if let Some(tree) = read(scanner, input, place)? {
        marks::check(scanner, place.path, &tree);
    }
    Ok(())
}

/// Reads a document. Where it is not plain data to its end, that is reported.
pub(super) fn read(
    scanner: &mut Scanner<'_>,
    input: &mut Input<'_>,
    place: Place<'_>,
) -> io::Result<Option<Tree>> {
    let Some(text) = read_text(scanner, input, place)? else { return Ok(None) };
    match parse(&text) {
        Ok(tree) => Ok(Some(tree)),
        Err((code, detail)) => {
            scanner.find(code, place.path, detail);
            Ok(None)
        }
    }
}

fn not_understood(why: impl Into<String>) -> Refusal {
    (Code::NotUnderstood, why.into())
}

/// Parses a document of plain data.
pub(super) fn parse(text: &str) -> Result<Tree, Refusal> {
    if let Some(tag) = PYTHON_TAGS.iter().find(|tag| text.contains(**tag)) {
        let at = text.find(tag).unwrap_or_default();
        let detail = format!("at byte {at} it has `{tag}`, by which Python's loader makes any object");
        return Err((Code::YamlTag, detail));
    }
    if let Some((at, sign)) = odd_line_end(text) {
        let detail =
            format!("at byte {at} it has U+{:04X}, which ends a line for some readers alone", sign as u32);
        return Err(not_understood(detail));
    }
    let options = granit_parser::options! { emit_comments: false };
    let parser = Parser::new_from_str_with_options(text, options);
    let mut reader = Reader { parser, anchors: HashMap::new(), budget: Budget::default() };
    let mut document = None;
    loop {
        match reader.next()? {
            Event::StreamEnd => return document.ok_or_else(|| not_understood("it has no document")),
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
            _ if document.is_some() => return Err(not_understood("it has several documents")),
            event => document = Some(reader.value(event, 0)?),
        }
    }
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    anchors: HashMap<usize, (Tree, usize)>,
    budget: Budget,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<Event<'t>, Refusal> {
        match self.parser.next_event() {
            Some(Ok((event, _))) => Ok(event),
            Some(Err(error)) => Err(not_understood(format!("it is not understood as YAML: {error}"))),
            None => Ok(Event::StreamEnd),
        }
    }

    fn value(&mut self, event: Event<'t>, depth: usize) -> Result<Tree, Refusal> {
        if depth > MAX_DEPTH {
            return Err(not_understood(format!("it is nested more than {MAX_DEPTH} deep")));
        }
        self.take(1)?;
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                check_tag(tag.as_deref())?;
                let is_null =
                    style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let tree = if is_null { Tree::Null } else { Tree::text(&text) };
                self.remember(anchor, tree)
            }
            Event::SequenceStart(_, anchor, tag) => {
                check_tag(tag.as_deref())?;
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        Event::SequenceEnd => break,
                        inner => items.push(self.value(inner, depth + 1)?),
                    }
                }
                self.remember(anchor, Tree::List(items))
            }
            Event::MappingStart(_, anchor, tag) => {
                check_tag(tag.as_deref())?;
                let entries = self.entries(depth)?;
                self.remember(anchor, Tree::Map(entries))
            }
            Event::Alias(anchor) => {
                let found = self.anchors.get(&anchor).cloned();
                let (tree, parts) =
                    found.ok_or_else(|| not_understood("an alias stands within its own anchor"))?;
                self.take(parts)?;
                Ok(tree)
            }
            other => Err(not_understood(format!("it has an unexpected part: {other:?}"))),
        }
    }

    fn entries(&mut self, depth: usize) -> Result<Vec<(Box<str>, Tree)>, Refusal> {
        let mut entries: Vec<(Box<str>, Tree)> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        loop {
            let key = match self.next()? {
                Event::MappingEnd => return Ok(entries),
                event => self.value(event, depth + 1)?,
            };
            let Tree::Text(key) = key else { return Err(not_understood("a key is not a string")) };
            if &*key == "<<" || !seen.insert(key.clone()) {
                let shown = path::shown(&key);
                return Err(not_understood(format!(
                    "the key `{shown}` is there twice or merges another map"
                )));
            }
            let event = self.next()?;
            entries.push((key, self.value(event, depth + 1)?));
        }
    }

    fn remember(&mut self, anchor: usize, tree: Tree) -> Result<Tree, Refusal> {
        if anchor != 0 {
            let parts = size_of_tree(&tree);
            self.take(parts)?;
            self.anchors.insert(anchor, (tree.clone(), parts));
        }
        Ok(tree)
    }

    fn take(&self, parts: usize) -> Result<(), Refusal> {
        if self.budget.take(parts) { Ok(()) } else { Err(not_understood(Budget::message())) }
    }
}

fn size_of_tree(tree: &Tree) -> usize {
    match tree {
        Tree::List(items) => 1 + items.iter().map(size_of_tree).sum::<usize>(),
        Tree::Map(entries) => 1 + entries.iter().map(|(_, inner)| 1 + size_of_tree(inner)).sum::<usize>(),
        _ => 1,
    }
}

/// Tags of plain data are allowed, written in any way.
fn check_tag(tag: Option<&Tag>) -> Result<(), Refusal> {
    let Some(tag) = tag else { return Ok(()) };
    let full = format!("{}{}", tag.handle(), tag.suffix());
    let is_plain =
        full == "!" || full.strip_prefix(TAG_PREFIX).is_some_and(|name| PLAIN_TAGS.contains(&name));
    let short = full.strip_prefix("!!").is_some_and(|name| PLAIN_TAGS.contains(&name));
    if is_plain || short {
        return Ok(());
    }
    let shown = path::shown(&full);
    Err((Code::YamlTag, format!("its tag `{shown}` makes a loader import or call something")))
}
