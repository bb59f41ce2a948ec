//! The metrics that the sources declare: what `Metrics::register` gets, read from the tokens of the code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::collected::COLLECTED;

/// A metric as a scraper sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Declared {
    /// With its prefix and, for a counter, `_total`.
    pub(crate) name: String,
    /// `counter`, `gauge`, `histogram` or `unknown`.
    pub(crate) kind: String,
    pub(crate) labels: Vec<String>,
    pub(crate) help: String,
    /// Which services have it.
    pub(crate) service: &'static str,
}

/// All metrics by name.
pub(crate) static ALL: LazyLock<BTreeMap<String, Declared>> = LazyLock::new(all);

fn all() -> BTreeMap<String, Declared> {
    let mut all = BTreeMap::new();
    let mut insert = |declared: Declared| {
        let name = declared.name.clone();
        assert!(all.insert(name.clone(), declared).is_none(), "{name} is declared twice");
    };
    for (path, stream) in sources() {
        File::read(&path, &stream).declared(&stream).into_iter().for_each(&mut insert);
    }
    for (name, kind, labels, help, service) in COLLECTED {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        insert(Declared {
            name: name.to_owned(),
            kind: kind.to_owned(),
            labels,
            help: help.to_owned(),
            service,
        });
    }
    all
}

/// Every string in the sources, tests left out.
pub(crate) fn literals() -> BTreeSet<String> {
    fn put(tokens: &[TokenTree], found: &mut BTreeSet<String>) {
        for token in tokens {
            match token {
                TokenTree::Literal(_) => found.extend(text(std::slice::from_ref(token))),
                TokenTree::Group(group) => put(&without_tests(group.stream()), found),
                _ => {}
            }
        }
    }
    let mut found = BTreeSet::new();
    for (_, stream) in sources() {
        put(&without_tests(stream), &mut found);
    }
    found
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The sources that declare metrics.
fn sources() -> Vec<(PathBuf, TokenStream)> {
    let mut files = Vec::new();
    for folder in ["crates", "services"] {
        for member in std::fs::read_dir(root().join(folder)).unwrap() {
            put_files(&member.unwrap().path().join("src"), &mut files);
        }
    }
    files.sort();
    let parse = |path: PathBuf| {
        let code = std::fs::read_to_string(&path).unwrap();
        let declares = code.contains("prometheus_client") || code.contains(".register(");
        let stream = || code.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        declares.then(|| (path.clone(), stream()))
    };
    files.into_iter().filter_map(parse).collect()
}

fn put_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            put_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// What a file says of types.
#[derive(Debug, Default)]
struct File {
    path: PathBuf,
    /// Fields of structs of labels.
    labels: BTreeMap<String, Vec<String>>,
    /// Types by the names of fields and variables.
    types: BTreeMap<String, BTreeSet<String>>,
    aliases: BTreeMap<String, String>,
}

impl File {
    fn read(path: &Path, stream: &TokenStream) -> Self {
        let mut file = Self { path: path.to_owned(), ..Self::default() };
        file.take(&without_tests(stream.clone()));
        file
    }

    fn take(&mut self, tokens: &[TokenTree]) {
        for (at, token) in tokens.iter().enumerate() {
            if let TokenTree::Group(group) = token {
                let within = without_tests(group.stream());
                if let [.., keyword, TokenTree::Ident(name)] = &tokens[..at]
                    && is(keyword, "struct")
                    && group.delimiter() == Delimiter::Brace
                {
                    self.labels.insert(name.to_string(), fields(&within));
                }
                self.take(&within);
            }
            let rest = &tokens[at + 1..];
            match (token, rest) {
                (TokenTree::Ident(name), [colon, kind @ ..])
                    if is(colon, ":") && !kind.first().is_some_and(|next| is(next, ":")) =>
                {
                    self.types.entry(name.to_string()).or_default().insert(upto(kind, &[",", ";", "=", ")"]));
                }
                (keyword, [TokenTree::Ident(name), equals, kind @ ..]) if is(equals, "=") => {
                    let kind = upto(kind, &[";"]);
                    if is(keyword, "type") {
                        self.aliases.insert(name.to_string(), kind);
                    } else if is(keyword, "let") && kind.contains("default") {
                        self.types.entry(name.to_string()).or_default().insert(kind);
                    }
                }
                _ => {}
            }
        }
    }

    /// Metrics of calls of `register`, and of the arrays of names that loops register.
    fn declared(&self, stream: &TokenStream) -> Vec<Declared> {
        let mut found = Vec::new();
        self.put_declared(&without_tests(stream.clone()), &mut BTreeMap::new(), &mut found);
        found
    }

    fn put_declared(
        &self,
        tokens: &[TokenTree],
        strings: &mut BTreeMap<String, String>,
        found: &mut Vec<Declared>,
    ) {
        for (at, token) in tokens.iter().enumerate() {
            if let (keyword, [TokenTree::Ident(name), equals, value, ..]) = (token, &tokens[at + 1..])
                && is(keyword, "let")
                && is(equals, "=")
                && let Some(value) = text(std::slice::from_ref(value))
            {
                strings.insert(name.to_string(), value);
            }
            let TokenTree::Group(group) = token else { continue };
            let within = without_tests(group.stream());
            let registers = at >= 3 && is(&tokens[at - 1], "register") && is(&tokens[at - 2], ".");
            let receiver = if registers { tokens[at - 3].to_string() } else { String::new() };
            let arguments = arguments(&within);
            if let [name, help, metric] = arguments.as_slice()
                && (matches!(receiver.as_str(), "metrics" | "registry")
                    || text(name).is_some() && text(help).is_some())
                && let Some(name) = text(name)
            {
                let help = text(help).or_else(|| strings.get(&help.first()?.to_string()).cloned());
                let metric = self.metric(&name, help.as_deref(), metric);
                let is_listed = || COLLECTED.iter().any(|(listed, ..)| listed.contains(name.as_str()));
                assert!(metric.is_some() || !registers || is_listed(), "{}: {name}", self.path.display());
                found.extend(metric);
            }
            self.put_declared(&within, strings, found);
        }
    }

    fn metric(&self, name: &str, help: Option<&str>, metric: &[TokenTree]) -> Option<Declared> {
        let words: Vec<String> = metric
            .iter()
            .filter(|token| matches!(token, TokenTree::Ident(_)))
            .map(ToString::to_string)
            .collect();
        let holder = words.iter().rfind(|word| !matches!(word.as_str(), "clone" | "self" | "own"))?;
        let kinds = self.types.get(holder)?;
        let mut resolved: BTreeSet<(String, Vec<String>)> =
            kinds.iter().filter_map(|kind| self.resolved(kind)).collect();
        if resolved.is_empty() {
            return None;
        }
        if resolved.len() > 1 {
            // Members of a family have the names of their families.
            resolved.retain(|(_, labels)| !labels.is_empty());
        }
        let [(kind, labels)] = resolved.iter().collect::<Vec<_>>()[..] else {
            panic!("{}: the type of {holder}, metric {name}, is not clear: {kinds:?}", self.path.display())
        };
        let help = help.unwrap_or_else(|| panic!("{}: {name} has no help", self.path.display()));
        let suffix = if kind == "counter" { "_total" } else { "" };
        let name = format!("slipway_{name}{suffix}");
        let service = service(&self.path);
        Some(Declared { name, kind: kind.clone(), labels: labels.clone(), help: help.to_owned(), service })
    }

    /// Kind and labels of a type; `None` if it is no metric.
    fn resolved(&self, kind: &str) -> Option<(String, Vec<String>)> {
        let mut kind = kind.to_owned();
        for (alias, meant) in &self.aliases {
            if kind.split(|letter: char| !letter.is_alphanumeric()).any(|word| word == alias) {
                kind = meant.clone();
            }
        }
        let known = [("Counter", "counter"), ("Gauge", "gauge"), ("Histogram", "histogram")];
        let (_, name) = known.into_iter().find(|(word, _)| kind.contains(word))?;
        let labels = match kind.split_once("Family") {
            None => Vec::new(),
            // The call of a function, not a type.
            Some((_, rest)) if !rest.contains('<') => return None,
            Some((_, rest)) => {
                let mut words = rest.split(|letter: char| !letter.is_alphanumeric());
                let of = words.find(|word| !word.is_empty())?;
                self.labels
                    .get(of)
                    .unwrap_or_else(|| panic!("{}: no struct {of}", self.path.display()))
                    .clone()
            }
        };
        Some((name.to_owned(), labels))
    }
}

fn service(path: &Path) -> &'static str {
    let path = path.strip_prefix(root()).unwrap().display().to_string();
    let services = ["registry", "launcher", "serving", "rollout-controller", "drift-monitor"];
    services
        .into_iter()
        .find(|service| path.starts_with(&format!("services/{service}/")))
        .unwrap_or("several")
}

/// Names of the fields of a struct.
fn fields(tokens: &[TokenTree]) -> Vec<String> {
    arguments(tokens)
        .iter()
        .filter_map(|field| {
            field.iter().position(|token| is(token, ":")).map(|colon| field[colon - 1].to_string())
        })
        .collect()
}

/// What is separated by commas, apart from those between angle brackets.
fn arguments(tokens: &[TokenTree]) -> Vec<Vec<TokenTree>> {
    let (mut arguments, mut depth) = (vec![Vec::new()], 0_i32);
    for token in tokens {
        depth += i32::from(is(token, "<")) - i32::from(is(token, ">"));
        if is(token, ",") && depth <= 0 {
            arguments.push(Vec::new());
        } else if let Some(last) = arguments.last_mut() {
            last.push(token.clone());
        }
    }
    arguments.retain(|argument| !argument.is_empty());
    arguments
}

/// Tokens before one of `ends`, apart from those between angle brackets.
fn upto(tokens: &[TokenTree], ends: &[&str]) -> String {
    let mut depth = 0_i32;
    let mut taken = String::new();
    for token in tokens {
        depth += i32::from(is(token, "<")) - i32::from(is(token, ">"));
        if depth <= 0 && ends.iter().any(|end| is(token, end)) {
            break;
        }
        taken += &token.to_string();
        taken.push(' ');
    }
    taken
}

/// The value of a string literal.
fn text(tokens: &[TokenTree]) -> Option<String> {
    let [TokenTree::Literal(literal)] = tokens else { return None };
    let literal = literal.to_string();
    Some(literal.strip_prefix('"')?.strip_suffix('"')?.replace("\\\"", "\""))
}

fn is(token: &TokenTree, text: &str) -> bool {
    !matches!(token, TokenTree::Group(_)) && token.to_string() == text
}

/// Tokens without what follows `#[cfg(test)]`, and without documentation.
fn without_tests(stream: TokenStream) -> Vec<TokenTree> {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    let (mut kept, mut at) = (Vec::with_capacity(tokens.len()), 0);
    while let Some(token) = tokens.get(at) {
        let attribute = match tokens.get(at + 1) {
            Some(TokenTree::Group(group)) if is(token, "#") && group.delimiter() == Delimiter::Bracket => {
                group.stream().to_string()
            }
            _ => String::new(),
        };
        if attribute.is_empty() {
            kept.push(token.clone());
            at += 1;
            continue;
        }
        at += 2;
        if attribute.replace(' ', "") == "cfg(test)" {
            let ends = |token: &TokenTree| {
                is(token, ";")
                    || matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
            };
            at += tokens[at..].iter().position(ends).map_or(tokens.len(), |end| end + 1);
        }
    }
    kept
}
