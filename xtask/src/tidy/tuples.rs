//! No function takes a tuple apart in its parameters.
//!
//! `(limit, offset): (i64, i64)` names its values where callers do not see them: callers can swap two of one
//! type. A struct names them at both ends. `tuples.txt` lists the functions from before this rule.

use std::collections::BTreeSet;

use anyhow::Context as _;
use proc_macro2::{Delimiter, TokenTree};

use super::Finding;
use super::sources::Source;

const LIST: &str = "xtask/src/tidy/tuples.txt";

/// A function with a tuple pattern among its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Function {
    name: String,
    line: usize,
}

pub(crate) fn check(sources: &[Source]) -> anyhow::Result<Vec<Finding>> {
    let mut exceptions = parse(include_str!("tuples.txt"))?;
    let mut findings = Vec::new();
    for source in sources {
        for Function { name, line } in functions(&source.tokens) {
            if exceptions.remove(&(source.file.clone(), name.clone())) {
                continue;
            }
            let message = format!(
                "`{name}` has a tuple pattern as a parameter: give its values a struct, or pass them singly"
            );
            findings.push(Finding { file: source.file.clone(), line, message });
        }
    }
    for (file, name) in exceptions {
        let message = format!("`{name}` of {file} has no tuple parameter: remove the line");
        findings.push(Finding { file: LIST.to_owned(), line: 0, message });
    }
    Ok(findings)
}

/// Reads lines such as `FILE FUNCTION`.
fn parse(list: &str) -> anyhow::Result<BTreeSet<(String, String)>> {
    let lines = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let entry = |line: &str| {
        let (file, name) = line.split_once(' ')?;
        Some((file.to_owned(), name.to_owned()))
    };
    lines
        .map(|line| entry(line).with_context(|| format!("{LIST}: expected `FILE FUNCTION`, got `{line}`")))
        .collect()
}

/// Functions with tuple patterns anywhere in the tokens; closures are none.
fn functions(tokens: &[TokenTree]) -> Vec<Function> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        if let TokenTree::Group(group) = token {
            found.extend(functions(&group.stream().into_iter().collect::<Vec<_>>()));
        }
        let [TokenTree::Ident(keyword), TokenTree::Ident(name), rest @ ..] = &tokens[at..] else { continue };
        if keyword == "fn" && parameters(rest).is_some_and(|parameters| takes_tuple(&parameters)) {
            found.push(Function { name: name.to_string(), line: name.span().start().line });
        }
    }
    found
}

/// The tokens within the parentheses that follow a function's name and its generic parameters.
fn parameters(after_name: &[TokenTree]) -> Option<Vec<TokenTree>> {
    let mut depth = 0_usize;
    let mut before = ' ';
    for token in after_name {
        match token {
            TokenTree::Punct(punct) => {
                match punct.as_char() {
                    '<' => depth += 1,
                    // The arrow of `Fn(A) -> B` closes nothing.
                    '>' if before != '-' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                before = punct.as_char();
                continue;
            }
            TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis && depth == 0 => {
                return Some(group.stream().into_iter().collect());
            }
            _ => {}
        }
        before = ' ';
    }
    None
}

fn takes_tuple(parameters: &[TokenTree]) -> bool {
    // A pattern in parentheses is followed by the colon before its type.
    parameters.windows(2).enumerate().any(|(at, pair)| {
        let is_first =
            at == 0 || matches!(&parameters[at - 1], TokenTree::Punct(punct) if punct.as_char() == ',');
        let is_pattern =
            matches!(&pair[0], TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis);
        let is_colon = matches!(&pair[1], TokenTree::Punct(punct) if punct.as_char() == ':');
        is_first && is_pattern && is_colon
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tokens::production;

    #[test]
    fn tuple_patterns_are_found_and_tuple_types_are_not() {
        let text = "
            impl A {
                fn page(&self, (limit, offset): (i64, i64)) {}
                fn generic<F: Fn(u8) -> u8>(f: F, (a, b): (u8, u8)) {}
                fn typed(pair: (u8, u8), named: Pair) { let (a, b) = pair; items.map(|(a, b)| a) }
                fn empty() {}
            }
            type Callback = fn(u8, (u8, u8));
        ";
        let names: Vec<String> =
            functions(&production(text.parse().unwrap())).into_iter().map(|function| function.name).collect();
        assert_eq!(names, ["page", "generic"]);
    }
}
