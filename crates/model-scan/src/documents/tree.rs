//! A document of JSON or YAML as far as loaders take names from it: keys and strings. Numbers in lists are
//! dropped, so that a long list of numbers takes no memory.

use std::{cell::Cell, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};

/// Strings are kept up to this many bytes.
const MAX_KEPT_TEXT_BYTES: usize = 1_024;
/// Parts of one document that are kept.
const MAX_NODES: usize = 2_000_000;

/// A part of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tree {
    Null,
    /// A number or a truth value of JSON.
    Scalar,
    /// A string of JSON, or any other scalar of YAML, cut where it is long.
    Text(Box<str>),
    List(Vec<Tree>),
    Map(Vec<(Box<str>, Tree)>),
}

impl Tree {
    /// A string, cut where it is long.
    pub(super) fn text(text: &str) -> Self {
        Self::Text(text[..text.floor_char_boundary(MAX_KEPT_TEXT_BYTES)].into())
    }

    /// The entry of a map.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|(name, _)| &**name == key).map(|(_, value)| value)
    }

    /// The entry of a map, where it is a string.
    pub(super) fn get_text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Self::as_text)
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The entries of a map; none of anything else.
    pub(super) fn entries(&self) -> &[(Box<str>, Self)] {
        match self {
            Self::Map(entries) => entries,
            _ => &[],
        }
    }

    /// Calls something with every map, outer ones first.
    pub(super) fn each_map(&self, visit: &mut dyn FnMut(&Self)) {
        match self {
            Self::Map(entries) => {
                visit(self);
                entries.iter().for_each(|(_, inner)| inner.each_map(visit));
            }
            Self::List(items) => items.iter().for_each(|inner| inner.each_map(visit)),
            _ => {}
        }
    }

    /// Whether a map anywhere in it has this key.
    pub(super) fn has_key(&self, key: &str) -> bool {
        let mut found = false;
        self.each_map(&mut |map| found |= map.get(key).is_some());
        found
    }
}

/// Counts the parts of a document as they are made.
#[derive(Debug, Default)]
pub(super) struct Budget(Cell<usize>);

impl Budget {
    /// Counts parts; false where there are too many.
    pub(super) fn take(&self, parts: usize) -> bool {
        self.0.set(self.0.get().saturating_add(parts));
        self.0.get() <= MAX_NODES
    }

    /// What to say where there are too many.
    pub(super) fn message() -> String {
        format!("it has more than {MAX_NODES} parts")
    }
}

/// Reads one value of JSON.
#[derive(Clone, Copy)]
pub(super) struct Seed<'b>(pub(super) &'b Budget);

impl Seed<'_> {
    fn count<E: serde::de::Error>(self) -> Result<(), E> {
        if self.0.take(1) { Ok(()) } else { Err(E::custom(Budget::message())) }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Tree;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Tree;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value of JSON")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Tree, E> {
        self.count()?;
        Ok(Tree::text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Tree, A::Error> {
        self.count()?;
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element_seed(self)? {
            if !matches!(item, Tree::Scalar | Tree::Null) {
                items.push(item);
            }
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        self.count()?;
        let mut entries = Vec::new();
        let mut seen = std::collections::HashSet::new();
        while let Some(key) = map.next_key::<Box<str>>()? {
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom(format!(
                    "the key `{}` is there twice",
                    crate::path::shown(&key)
                )));
            }
            self.count()?;
            entries.push((key, map.next_value_seed(self)?));
        }
        Ok(Tree::Map(entries))
    }
}
