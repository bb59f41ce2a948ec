//! Which file of a crate imports which: `use` items and paths, followed through re-exports to the file that
//! defines the name.

use std::collections::{BTreeMap, HashMap};

use super::sources::Source;
use super::tokens;

/// Re-exports of re-exports that are followed.
const MAX_REEXPORTS: usize = 10;

/// Imports between files of the workspace: the line of the first one, by importing and imported file.
pub(crate) type Imports = BTreeMap<String, BTreeMap<String, usize>>;

/// Imports between the files of each crate.
///
/// A module that uses its own submodules is composed of them; that is no import. A submodule that uses its
/// parent is one.
pub(crate) fn of(sources: &[Source]) -> Imports {
    let mut imports = Imports::new();
    for of_crate in sources.chunk_by(|one, other| one.krate == other.krate) {
        let modules = Modules::of(of_crate);
        for source in of_crate {
            let found = imports.entry(source.file.clone()).or_default();
            let uses = tokens::imports(&source.tokens).into_iter().map(|import| import.path);
            for path in uses.chain(tokens::paths(&source.tokens)) {
                let Some(target) = modules.defining(&source.module, &path.segments, 0) else { continue };
                if !target.starts_with(&source.module) {
                    found.entry(modules.files[target].clone()).or_insert(path.line);
                }
            }
        }
    }
    imports
}

type Module = Vec<String>;

/// The modules of one crate.
struct Modules<'sources> {
    files: HashMap<&'sources [String], String>,
    /// Paths that names of a module stand for, from its `use` items.
    names: HashMap<&'sources [String], HashMap<String, Vec<String>>>,
}

impl<'sources> Modules<'sources> {
    fn of(sources: &'sources [Source]) -> Self {
        let files = sources.iter().map(|source| (source.module.as_slice(), source.file.clone())).collect();
        let names = |source: &Source| {
            let named = tokens::imports(&source.tokens).into_iter();
            named.filter_map(|import| Some((import.name?, import.path.segments))).collect()
        };
        let names = sources.iter().map(|source| (source.module.as_slice(), names(source))).collect();
        Self { files, names }
    }

    fn known(&self, module: &[String]) -> Option<&'sources [String]> {
        self.files.get_key_value(module).map(|(module, _)| *module)
    }

    /// The module that defines what a path in `module` names; `None` for another crate, and for a name of the
    /// file itself.
    fn defining(&self, module: &[String], path: &[String], depth: usize) -> Option<&'sources [String]> {
        if depth > MAX_REEXPORTS {
            return None;
        }
        let (first, rest) = path.split_first()?;
        let (start, rest): (Module, &[String]) = match first.as_str() {
            "crate" => (Module::new(), rest),
            "self" => (module.to_vec(), rest),
            "super" => {
                let ups = path.iter().take_while(|segment| *segment == "super").count();
                (module[..module.len().saturating_sub(ups)].to_vec(), &path[ups..])
            }
            name if self.known(&[module, &[name.to_owned()]].concat()).is_some() => (module.to_vec(), path),
            name => {
                let stands_for = self.names.get(module)?.get(name)?;
                if stands_for.first() == Some(first) {
                    return None;
                }
                let path = [stands_for.as_slice(), rest].concat();
                return self.defining(module, &path, depth + 1);
            }
        };
        self.descend(start, rest, depth)
    }

    /// Follows a path from a module down to the module that defines its end.
    fn descend(&self, mut module: Module, path: &[String], depth: usize) -> Option<&'sources [String]> {
        for (index, segment) in path.iter().enumerate() {
            module.push(segment.clone());
            if self.known(&module).is_some() {
                continue;
            }
            module.pop();
            let reexported = self.names.get(module.as_slice()).and_then(|names| names.get(segment));
            return match reexported {
                Some(stands_for) => {
                    let path = [stands_for.as_slice(), &path[index + 1..]].concat();
                    self.defining(&module, &path, depth + 1)
                }
                None => self.known(&module),
            };
        }
        self.known(&module)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(module: &[&str], text: &str) -> Source {
        Source {
            file: format!("{}.rs", if module.is_empty() { "lib".to_owned() } else { module.join("/") }),
            krate: "crates/one".to_owned(),
            module: module.iter().map(|name| (*name).to_owned()).collect(),
            tokens: tokens::production(text.parse().unwrap()),
        }
    }

    #[test]
    fn a_name_is_imported_from_the_file_that_defines_it() {
        let sources = [
            source(&[], "mod a; mod b; mod c; pub use a::deep::Deep; pub struct Root;"),
            source(&["a"], "mod deep; pub(crate) use deep::Deep; use super::b;\nfn f() { b::g() }"),
            source(&["a", "deep"], "use std::fmt; pub struct Deep;"),
            source(&["b"], "use crate::Deep;\nuse crate::a::Deep as Other; fn g() {}"),
            source(
                &["c"],
                "fn f() { let a: crate::Root; super::b::g(); serde::x(); Self::new(); local::y() }",
            ),
        ];
        let imports = of(&sources);
        let targets =
            |file: &str| imports[file].iter().map(|(to, line)| (to.as_str(), *line)).collect::<Vec<_>>();
        assert_eq!(targets("lib.rs"), [], "a module is composed of its submodules");
        assert_eq!(targets("a.rs"), [("b.rs", 1)]);
        assert_eq!(targets("a/deep.rs"), []);
        assert_eq!(targets("b.rs"), [("a/deep.rs", 1)], "re-exports are followed");
        assert_eq!(targets("c.rs"), [("b.rs", 1), ("lib.rs", 1)]);
    }
}
