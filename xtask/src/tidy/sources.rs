//! The production code of the workspace, file by file.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use proc_macro2::{TokenStream, TokenTree};

use super::tokens;

/// Folders whose subfolders are crates.
const FOLDERS: [&str; 3] = ["crates", "services", "programs"];

/// One file of production code.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// Path from the workspace root, with `/`.
    pub(crate) file: String,
    /// Path of the crate's folder from the workspace root.
    pub(crate) krate: String,
    /// Path of the module within the crate; empty for `lib.rs`, and for `main.rs` of a crate without a
    /// library.
    pub(crate) module: Vec<String>,
    /// Tokens without code for tests.
    pub(crate) tokens: Vec<TokenTree>,
}

/// Reads every module that the crates of the workspace declare.
pub(crate) fn read(root: &Path) -> anyhow::Result<Vec<Source>> {
    let mut crates = vec![PathBuf::from("xtask")];
    for folder in FOLDERS {
        let entries =
            std::fs::read_dir(root.join(folder)).with_context(|| format!("cannot read {folder}"))?;
        for entry in entries {
            crates.push(Path::new(folder).join(entry?.file_name()));
        }
    }
    crates.sort();
    let mut sources = Vec::new();
    for krate in &crates {
        let src = krate.join("src");
        // With a library, `main.rs` only calls it.
        let top = ["lib.rs", "main.rs"].into_iter().find(|name| root.join(&src).join(name).is_file());
        if let Some(top) = top {
            let reader = Reader { root, krate: &slashed(krate) };
            reader.module(&src.join(top), &src, &[], &mut sources)?;
        }
    }
    Ok(sources)
}

struct Reader<'workspace> {
    root: &'workspace Path,
    krate: &'workspace str,
}

impl Reader<'_> {
    /// Reads the module in `file`, whose submodules lie in `folder`, and all of those.
    fn module(
        &self,
        file: &Path,
        folder: &Path,
        module: &[String],
        sources: &mut Vec<Source>,
    ) -> anyhow::Result<()> {
        let path = self.root.join(file);
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let parsed: Result<TokenStream, _> = text.parse();
        let tokens = parsed.map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        let tokens = tokens::production(tokens);
        let children = tokens::modules(&tokens);
        sources.push(Source {
            file: slashed(file),
            krate: self.krate.to_owned(),
            module: module.to_vec(),
            tokens,
        });
        for name in children {
            let inner = folder.join(&name);
            let own = [folder.join(format!("{name}.rs")), inner.join("mod.rs")];
            let own = own.into_iter().find(|own| self.root.join(own).is_file());
            let own =
                own.with_context(|| format!("{}: the file of `mod {name};` is missing", file.display()))?;
            self.module(&own, &inner, &[module, &[name]].concat(), sources)?;
        }
        Ok(())
    }
}

fn slashed(path: &Path) -> String {
    path.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}
