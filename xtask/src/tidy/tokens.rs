//! Tokens of production code: what is compiled for tests alone is left out.

use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};

/// Keywords that begin an item, after attributes and visibility.
const ITEMS: [&str; 14] = [
    "async",
    "const",
    "enum",
    "extern",
    "fn",
    "impl",
    "macro_rules",
    "mod",
    "static",
    "struct",
    "trait",
    "type",
    "unsafe",
    "use",
];

/// The tokens without items, fields and statements under `#[cfg(test)]`.
pub(crate) fn production(tokens: TokenStream) -> Vec<TokenTree> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        if is_test_attribute(&tokens[at..]) {
            at = end_of_item(&tokens, at);
            continue;
        }
        kept.push(match &tokens[at] {
            TokenTree::Group(group) => {
                let inner: TokenStream = production(group.stream()).into_iter().collect();
                let mut copy = Group::new(group.delimiter(), inner);
                copy.set_span(group.span());
                copy.into()
            }
            other => other.clone(),
        });
        at += 1;
    }
    kept
}

/// Whether `#[cfg(test)]` or a combination that requires it stands here.
fn is_test_attribute(tokens: &[TokenTree]) -> bool {
    let [TokenTree::Punct(hash), TokenTree::Group(attribute), ..] = tokens else { return false };
    if hash.as_char() != '#' || attribute.delimiter() != Delimiter::Bracket {
        return false;
    }
    let inner: Vec<TokenTree> = attribute.stream().into_iter().collect();
    let [TokenTree::Ident(name), TokenTree::Group(condition)] = &inner[..] else { return false };
    let words = words(condition.stream());
    name == "cfg" && words.iter().any(|word| word == "test") && !words.iter().any(|word| word == "not")
}

fn words(tokens: TokenStream) -> Vec<String> {
    let mut words = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => words.push(ident.to_string()),
            TokenTree::Group(group) => words.extend(self::words(group.stream())),
            _ => {}
        }
    }
    words
}

/// Index after the item, field or statement that begins with the attributes at `at`.
fn end_of_item(tokens: &[TokenTree], mut at: usize) -> usize {
    while matches!(&tokens[at..], [TokenTree::Punct(hash), TokenTree::Group(_), ..] if hash.as_char() == '#')
    {
        at += 2;
    }
    if is_word(tokens.get(at), "pub") {
        at += 1;
        if matches!(tokens.get(at), Some(TokenTree::Group(group)) if group.delimiter()
            == Delimiter::Parenthesis)
        {
            at += 1;
        }
    }
    let is_item = ITEMS.iter().any(|keyword| is_word(tokens.get(at), keyword));
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            TokenTree::Punct(punct) if punct.as_char() == ';' => break,
            // A field, a variant or an arm ends with a comma; in an item it separates generic parameters.
            TokenTree::Punct(punct) if punct.as_char() == ',' && !is_item => break,
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => break,
            _ => {}
        }
    }
    at
}

fn is_word(token: Option<&TokenTree>, word: &str) -> bool {
    matches!(token, Some(TokenTree::Ident(ident)) if ident == word)
}

/// A path such as `crate::a::b`, with the line on which it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
}

/// The paths of two or more segments anywhere in the tokens, except in `use` items.
pub(crate) fn paths(tokens: &[TokenTree]) -> Vec<Path> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Ident(word) if word == "use" => at = end_of_use(tokens, at),
            TokenTree::Ident(first) => {
                let (path, next) = path_at(tokens, at, first);
                // `::name` is the name of another crate.
                if path.segments.len() > 1 && !follows_colons(tokens, at) {
                    found.push(path);
                }
                at = next;
            }
            TokenTree::Group(group) => {
                found.extend(paths(&group.stream().into_iter().collect::<Vec<_>>()));
                at += 1;
            }
            _ => at += 1,
        }
    }
    found
}

fn path_at(tokens: &[TokenTree], mut at: usize, first: &Ident) -> (Path, usize) {
    let mut path = Path { segments: vec![first.to_string()], line: first.span().start().line };
    at += 1;
    while is_colons(tokens, at) {
        let Some(TokenTree::Ident(next)) = tokens.get(at + 2) else { break };
        path.segments.push(next.to_string());
        at += 3;
    }
    (path, at)
}

fn is_colons(tokens: &[TokenTree], at: usize) -> bool {
    let is_colon =
        |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    is_colon(at) && is_colon(at + 1)
}

fn follows_colons(tokens: &[TokenTree], at: usize) -> bool {
    at >= 2 && is_colons(tokens, at - 2)
}

fn end_of_use(tokens: &[TokenTree], at: usize) -> usize {
    let is_end = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ';');
    tokens[at..].iter().position(is_end).map_or(tokens.len(), |length| at + length + 1)
}

/// A name that a `use` item brings into its module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Import {
    /// The name within the module; `None` for `*` and for `as _`.
    pub(crate) name: Option<String>,
    pub(crate) path: Path,
}

/// The imports of `use` items anywhere in the tokens.
pub(crate) fn imports(tokens: &[TokenTree]) -> Vec<Import> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Ident(word) if word == "use" => {
                let end = end_of_use(tokens, at);
                let body = &tokens[at + 1..end];
                if !is_colons(body, 0) {
                    branches(body, &[], &mut found);
                }
                at = end;
            }
            TokenTree::Group(group) => {
                found.extend(imports(&group.stream().into_iter().collect::<Vec<_>>()));
                at += 1;
            }
            _ => at += 1,
        }
    }
    found
}

/// Adds the imports of a list of use trees below `prefix`.
fn branches(tokens: &[TokenTree], prefix: &[String], found: &mut Vec<Import>) {
    let is_end =
        |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if matches!(punct.as_char(), ',' | ';'));
    for branch in tokens.split(is_end).filter(|branch| !branch.is_empty()) {
        let (mut segments, mut line, mut name) = (prefix.to_vec(), 0, None);
        let mut words = branch.iter().peekable();
        let mut is_complete = true;
        while let Some(token) = words.next() {
            match token {
                TokenTree::Ident(word) if word == "as" => {
                    name = words.next().map(ToString::to_string);
                }
                TokenTree::Ident(word) => {
                    line = word.span().start().line;
                    segments.push(word.to_string());
                }
                TokenTree::Group(group) => {
                    branches(&group.stream().into_iter().collect::<Vec<_>>(), &segments, found);
                    is_complete = false;
                }
                TokenTree::Punct(punct) if punct.as_char() == '*' => {
                    line = punct.span().start().line;
                    name = Some("_".to_owned());
                }
                _ => {}
            }
        }
        if is_complete {
            if segments.len() > 1 && segments.last().is_some_and(|last| last == "self") {
                segments.pop();
            }
            let name = name.or_else(|| segments.last().cloned()).filter(|name| name != "_");
            found.push(Import { name, path: Path { segments, line } });
        }
    }
}

/// Names of `mod name;` items: modules with a file of their own.
pub(crate) fn modules(tokens: &[TokenTree]) -> Vec<String> {
    let is_semicolon = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ';');
    let module = |window: &[TokenTree]| match window {
        [TokenTree::Ident(keyword), TokenTree::Ident(name), end] if keyword == "mod" && is_semicolon(end) => {
            Some(name.to_string())
        }
        _ => None,
    };
    tokens.windows(3).filter_map(module).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<TokenTree> {
        production(text.parse().unwrap())
    }

    fn shown(text: &str) -> Vec<String> {
        paths(&tokens(text)).iter().map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn code_for_tests_is_left_out() {
        let text = "
            mod kept;
            #[cfg(test)] mod tests { use crate::a; }
            #[cfg(test)] #[expect(x)] pub(crate) fn f<A, B>(a: A) -> crate::b::B { crate::c::d() }
            #[cfg(all(test, unix))] mod other;
            struct S { #[cfg(test)] one: crate::d::E, two: crate::kept::Two }
            #[cfg(not(test))] fn g() { kept::g() }
            #[cfg_attr(test, derive(Default))] struct T(kept::T);
        ";
        assert_eq!(shown(text), ["crate::kept::Two", "kept::g", "kept::T"]);
        assert_eq!(modules(&tokens(text)), ["kept"]);
        assert!(imports(&tokens(text)).is_empty());
    }

    #[test]
    fn paths_are_found_in_expressions_types_and_macros() {
        let text = "fn f(a: super::A) -> Vec<b::B> \
            { format!(\"{}\", crate::c::d(1)); ::other::e(); x.y; Self::z() }";
        assert_eq!(shown(text), ["super::A", "b::B", "crate::c::d", "Self::z"]);
    }

    #[test]
    fn use_trees_are_taken_apart() {
        let text =
            "use crate::{a::{self, B as C}, d::*};\nuse std::fmt::Write as _;\npub(crate) use super::e;";
        let found: Vec<(String, Option<String>, usize)> = imports(&tokens(text))
            .into_iter()
            .map(|import| (import.path.segments.join("::"), import.name, import.path.line))
            .collect();
        let name = |name: &str| Some(name.to_owned());
        let expected = [
            ("crate::a".to_owned(), name("a"), 1),
            ("crate::a::B".to_owned(), name("C"), 1),
            ("crate::d".to_owned(), None, 1),
            ("std::fmt::Write".to_owned(), None, 2),
            ("super::e".to_owned(), name("e"), 3),
        ];
        assert_eq!(found, expected);
    }
}
