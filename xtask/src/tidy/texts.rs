//! The texts that users read: pages of the documentation, `--help`, and string literals of production code.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use proc_macro2::{Delimiter, TokenTree};

use super::sources::Source;

/// Pages outside `docs/`.
const PAGES: [&str; 5] =
    ["CHANGELOG.md", "CONTRIBUTING.md", "README.md", "SECURITY.md", "examples/README.md"];
/// Derives whose doc comments users read, as help or as descriptions in the OpenAPI documents.
const SHOWN: [&str; 6] = ["Args", "IntoParams", "Parser", "Subcommand", "ToSchema", "ValueEnum"];

/// A text with the line on which it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// The pages of the documentation, as paths from the root, with their content.
pub(crate) fn pages(root: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let mut paths: Vec<PathBuf> = PAGES.iter().map(|page| root.join(page)).collect();
    let mut folders = vec![root.join("docs")];
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path);
        let text = text.with_context(|| format!("cannot read {}", path.display()))?;
        let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        Ok((shown, text))
    };
    paths.into_iter().map(read).collect()
}

/// A line of a page, with its role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line<'page> {
    /// A sentence, a heading or an item of a list.
    Prose(&'page str),
    /// A row of a table.
    Row(&'page str),
    /// Code, in a fence or indented.
    Code,
}

/// The lines of a page, in their order.
pub(crate) fn lines(page: &str) -> Vec<Line<'_>> {
    let mut fenced = false;
    // Indented lines are code only after an empty line; after a sentence they continue an item of a list.
    let mut continues = false;
    let role = |line| {
        let line: &str = line;
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continues = false;
            return Line::Code;
        }
        let is_indented = line.starts_with("    ") && !continues;
        continues = !line.trim().is_empty() && !is_indented;
        match line.trim_start().starts_with('|') {
            _ if fenced || is_indented => Line::Code,
            true => Line::Row(line),
            false => Line::Prose(line),
        }
    };
    page.lines().map(role).collect()
}

/// String literals with more than one word, and doc comments that users read.
pub(crate) fn of_source(source: &Source) -> Vec<Text> {
    let mut found = Vec::new();
    collect(&source.tokens, false, &mut found);
    found
}

/// Collects texts; `documented` says whether doc comments of these tokens are shown to users.
fn collect(tokens: &[TokenTree], documented: bool, found: &mut Vec<Text>) {
    let mut attributes: Vec<&TokenTree> = Vec::new();
    // Whether the item that begins here is shown: its attributes say so, and its body inherits that.
    let mut shown = documented;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '#' => {}
            TokenTree::Group(group) if is_attribute(tokens, at) => {
                attributes.push(token);
                shown = documented || attributes.iter().any(|attribute| shows(attribute));
                if !is_doc(group) {
                    collect(&stream(group), documented, found);
                }
            }
            // Documentation of a module is for developers.
            TokenTree::Group(group) if is_doc(group) => {}
            TokenTree::Group(group) => {
                collect(&stream(group), shown && group.delimiter() == Delimiter::Brace, found);
                if group.delimiter() == Delimiter::Brace {
                    shown = documented;
                }
            }
            TokenTree::Literal(literal) => found.extend(string(&literal.to_string(), line_of(token))),
            TokenTree::Punct(punct) if matches!(punct.as_char(), ';' | ',') => shown = documented,
            _ => {}
        }
        if !matches!(token, TokenTree::Punct(punct) if punct.as_char() == '#') && !is_attribute(tokens, at) {
            if shown {
                found.extend(attributes.iter().filter_map(|attribute| doc(attribute)));
            }
            attributes.clear();
        }
    }
}

fn is_attribute(tokens: &[TokenTree], at: usize) -> bool {
    let bracket = matches!(&tokens[at], TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket);
    let after = |character| {
        matches!(at.checked_sub(1).map(|at| &tokens[at]), Some(TokenTree::Punct(punct))
        if punct.as_char() == character)
    };
    bracket && after('#')
}

/// Whether an attribute makes the doc comments of its item visible to users.
fn shows(attribute: &TokenTree) -> bool {
    let text = attribute.to_string();
    let words = || text.split(|character: char| !character.is_alphanumeric());
    match words().find(|word| !word.is_empty()) {
        Some("derive" | "cfg_attr") => words().any(|word| SHOWN.contains(&word)),
        first => first == Some("utoipa"),
    }
}

fn is_doc(group: &proc_macro2::Group) -> bool {
    let first = stream(group).into_iter().next();
    group.delimiter() == Delimiter::Bracket && matches!(first, Some(TokenTree::Ident(name)) if name == "doc")
}

/// The text of a doc comment.
fn doc(attribute: &TokenTree) -> Option<Text> {
    let TokenTree::Group(group) = attribute else { return None };
    match &stream(group)[..] {
        [TokenTree::Ident(name), TokenTree::Punct(_), TokenTree::Literal(text)] if name == "doc" => {
            string(&text.to_string(), line_of(attribute))
        }
        _ => None,
    }
}

fn stream(group: &proc_macro2::Group) -> Vec<TokenTree> {
    group.stream().into_iter().collect()
}

fn line_of(token: &TokenTree) -> usize {
    token.span().start().line
}

/// The content of a string literal that has a space; names, keys and paths have none.
fn string(literal: &str, line: usize) -> Option<Text> {
    let open = literal.find('"')?;
    let close = literal.rfind('"').filter(|close| *close > open)?;
    let text = literal[open + 1..close].replace("\\\n", " ").replace("\\n", " ").replace("\\\"", "\"");
    text.trim().contains(' ').then_some(Text { line, text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tokens::production;

    fn texts(code: &str) -> Vec<(usize, String)> {
        let source = Source {
            file: "a.rs".to_owned(),
            krate: "a".to_owned(),
            module: Vec::new(),
            tokens: production(code.parse().unwrap()),
        };
        of_source(&source).into_iter().map(|text| (text.line, text.text.trim().to_owned())).collect()
    }

    #[test]
    fn help_and_literals_are_texts_and_other_comments_are_not() {
        let code = r#"
/// Not shown to users.
struct Inner { /// Neither is this.
    a: u8 }
/// Settings of a service.
#[derive(Debug, clap::Args)]
struct Config {
    /// Address of the listener.
    #[arg(long, help = "A long help")]
    listen: String,
}
/// Returns a model.
#[utoipa::path(get, path = "/models")]
async fn model() { bail!("no model {name}", "one-word"); }
/// Internal only.
fn after() {}
"#;
        let expected = [
            (10, "A long help"),
            (6, "Settings of a service."),
            (9, "Address of the listener."),
            (13, "Returns a model."),
            (15, "no model {name}"),
        ];
        let mut found = texts(code);
        found.sort();
        let mut expected: Vec<(usize, String)> =
            expected.iter().map(|(line, text)| (line - 1, (*text).to_owned())).collect();
        expected.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn continued_literals_are_one_text() {
        assert_eq!(texts("const A: &str = \"one \\\n    two\";"), [(1, "one      two".to_owned())]);
    }

    #[test]
    fn code_and_tables_of_a_page_are_told_apart_from_prose() {
        let page = "Text\n\n    code\n\n- item\n    goes on\n\n| a |\n```\nfenced\n```\n";
        let roles = lines(page);
        let prose: Vec<usize> = (0..roles.len())
            .filter(|at| matches!(roles[*at], Line::Prose(text) if !text.is_empty()))
            .collect();
        assert_eq!(prose, [0, 4, 5]);
        assert_eq!(roles[7], Line::Row("| a |"));
        assert_eq!(roles.iter().filter(|role| **role == Line::Code).count(), 4);
    }
}
