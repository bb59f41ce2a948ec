//! Lines have at most 110 columns, in code, comments and pages: two files fit next to each other on a screen.
//!
//! rustfmt holds code to that, but leaves comments and statements with long literals alone. Tables and code
//! in pages are exempt, and so are lines that cannot be broken, such as URLs. `width.txt` lists the files
//! from before this rule.

use std::path::Path;

use anyhow::Context as _;

use super::sources::Source;
use super::texts::{self, Line};
use super::{Finding, allowance};
use crate::build::root;

const LIST: &str = "xtask/src/tidy/width.txt";
const COLUMNS: usize = 110;
/// A word that is longer cannot be moved to a line of its own within the limit.
const LONGEST_WORD: usize = 80;
/// Folders with Rust code.
const FOLDERS: [&str; 4] = ["crates", "services", "programs", "xtask"];

pub(crate) fn check(_: &[Source]) -> anyhow::Result<Vec<Finding>> {
    let mut wide = Vec::new();
    for (file, page) in texts::pages(&root())? {
        let lines = texts::lines(&page).into_iter().map(|line| match line {
            Line::Prose(text) => text,
            Line::Row(_) | Line::Code => "",
        });
        wide.extend(wide_lines(&file, lines));
    }
    for folder in FOLDERS {
        for_each_file(&root().join(folder), &mut |path| {
            let text = std::fs::read_to_string(path);
            let text = text.with_context(|| format!("cannot read {}", path.display()))?;
            let file = path.strip_prefix(root()).unwrap_or(path).display().to_string();
            wide.extend(wide_lines(&file, text.lines()));
            Ok(())
        })?;
    }
    allowance::beyond(wide, include_str!("width.txt"), LIST)
}

fn for_each_file(folder: &Path, act: &mut dyn FnMut(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        if path.is_dir() && name.as_deref() != Some("target") {
            for_each_file(&path, act)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            act(&path)?;
        }
    }
    Ok(())
}

fn wide_lines<'text>(file: &str, lines: impl Iterator<Item = &'text str>) -> Vec<Finding> {
    let wide = lines.enumerate().filter(|(_, line)| is_wide(line));
    wide.map(|(index, line)| Finding {
        file: file.to_owned(),
        line: index + 1,
        message: format!("{} columns; wrap the line at {COLUMNS}", line.chars().count()),
    })
    .collect()
}

/// Whether a line is too long and could be broken.
fn is_wide(line: &str) -> bool {
    line.chars().count() > COLUMNS && line.split_whitespace().all(|word| word.chars().count() <= LONGEST_WORD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_wide_unless_they_cannot_be_broken() {
        let sentence = "word ".repeat(23);
        assert!(is_wide(sentence.trim_end()));
        assert!(!is_wide(&"ä ".repeat(55)), "columns are characters, not bytes");
        assert!(!is_wide(&format!("see <https://example.org/{}> for more", "x".repeat(100))));
    }
}
