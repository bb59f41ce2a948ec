//! No file imports, directly or through others, a file that imports it.
//!
//! Files in a circle can only be read together. Where a circle is inherent (mutually recursive parsers),
//! `circles.txt` lists the import that closes it.

use std::collections::{BTreeMap, VecDeque};

use anyhow::Context as _;

use super::Finding;
use super::imports::{self, Imports};
use super::sources::Source;

const LIST: &str = "xtask/src/tidy/circles.txt";

/// An import that may close a circle.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Exception {
    from: String,
    to: String,
    /// Line in the list.
    line: usize,
}

pub(crate) fn check(sources: &[Source]) -> anyhow::Result<Vec<Finding>> {
    Ok(findings(&imports::of(sources), &parse(include_str!("circles.txt"))?))
}

/// Reads lines such as `FROM → TO  # reason`.
fn parse(list: &str) -> anyhow::Result<Vec<Exception>> {
    let lines = list.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let exception = |(index, line): (usize, &str)| {
        let (from, rest) = line.split_once(" → ")?;
        let (to, reason) = rest.split_once(" # ")?;
        let (from, to) = (from.trim().to_owned(), to.trim().to_owned());
        (!reason.trim().is_empty()).then_some(Exception { from, to, line: index + 1 })
    };
    lines
        .map(|(index, line)| {
            exception((index, line))
                .with_context(|| format!("{LIST}:{}: expected `FROM → TO # reason`, got `{line}`", index + 1))
        })
        .collect()
}

fn findings(imports: &Imports, exceptions: &[Exception]) -> Vec<Finding> {
    let mut remaining = imports.clone();
    let mut findings = Vec::new();
    for exception in exceptions {
        let is_import =
            imports.get(&exception.from).is_some_and(|targets| targets.contains_key(&exception.to));
        if !is_import || way(imports, &exception.to, &exception.from).is_none() {
            findings.push(Finding {
                file: LIST.to_owned(),
                line: exception.line,
                message: format!("{} → {} closes no circle: remove the line", exception.from, exception.to),
            });
        }
        if let Some(targets) = remaining.get_mut(&exception.from) {
            targets.remove(&exception.to);
        }
    }
    while let Some((from, to, back)) = shortest_circle(&remaining) {
        let line = remaining[&from][&to];
        findings.push(Finding { file: from.clone(), line, message: described(&remaining, &back) });
        // Others that share this import are reported once it is gone.
        remaining.entry(from).or_default().remove(&to);
    }
    findings
}

/// An import that closes a circle, and the way back; one of the shortest.
fn shortest_circle(imports: &Imports) -> Option<(String, String, Vec<String>)> {
    let all = imports.iter().flat_map(|(from, targets)| targets.keys().map(move |to| (from, to)));
    let circles = all.filter_map(|(from, to)| Some((from.clone(), to.clone(), way(imports, to, from)?)));
    circles.min_by_key(|(_, _, back)| back.len())
}

/// The shortest way from a file to another along imports, with both ends.
fn way(imports: &Imports, from: &str, to: &str) -> Option<Vec<String>> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([from]);
    while let Some(file) = queue.pop_front() {
        if file == to {
            let mut way = vec![to.to_owned()];
            let mut at = to;
            while at != from {
                at = came_from[at];
                way.push(at.to_owned());
            }
            way.reverse();
            return Some(way);
        }
        for next in imports.get(file).into_iter().flat_map(BTreeMap::keys) {
            if next != from && !came_from.contains_key(next.as_str()) {
                came_from.insert(next, file);
                queue.push_back(next);
            }
        }
    }
    None
}

fn described(imports: &Imports, back: &[String]) -> String {
    let hops: Vec<String> =
        back.windows(2).map(|hop| format!("{} (line {})", hop[1], imports[&hop[0]][&hop[1]])).collect();
    format!("imports {}, which imports {}", back[0], hops.join(", which imports "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imports(edges: &[(&str, &str)]) -> Imports {
        let mut imports = Imports::new();
        for (line, (from, to)) in edges.iter().enumerate() {
            imports.entry((*from).to_owned()).or_default().insert((*to).to_owned(), line + 1);
            imports.entry((*to).to_owned()).or_default();
        }
        imports
    }

    #[test]
    fn a_circle_is_found_once_and_an_exception_opens_it() {
        let circle = imports(&[("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")]);
        let found = findings(&circle, &[]);
        assert_eq!(found.len(), 1, "{found:?}");
        let expected = "a:1: imports b, which imports c (line 2), which imports a (line 3)";
        assert_eq!(found[0].to_string(), expected);
        let exceptions = parse("# a comment\n\nc → a # recursive\n").unwrap();
        assert_eq!(findings(&circle, &exceptions), []);
    }

    #[test]
    fn an_exception_that_closes_no_circle_is_to_be_removed() {
        let tree = imports(&[("a", "b"), ("b", "c")]);
        for list in ["a → b # was a circle", "a → lost # a file that is gone"] {
            let found = findings(&tree, &parse(list).unwrap());
            assert_eq!(found.len(), 1, "{list}");
            assert!(found[0].message.contains("remove the line"), "{}", found[0].message);
        }
    }

    #[test]
    fn an_exception_requires_its_reason() {
        for list in ["a → b", "a → b #", "a b # reason"] {
            assert!(parse(list).unwrap_err().to_string().contains("circles.txt:1"), "{list}");
        }
    }
}
