//! The curated list of globals that pickles of ordinary models use, and what a pickle may do with each.
//!
//! `examples/model_scan/safe_globals.py` writes the list from installed packages and explains its rules.

use std::{collections::HashMap, sync::LazyLock};

const LIST: &str = include_str!("../lists/python_models.txt");
const VERSIONS_PREFIX: &str = "# made with: ";

/// What a pickle may do with a global.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permission {
    /// Refer to it. It is a function that others call later, on data.
    Reference,
    /// Make instances without its constructor, and nothing else: its constructor may read files.
    Instance,
    /// Make instances without its constructor, and refer to it.
    Class,
    /// Call it with any arguments, and refer to it.
    Call,
}

static LISTED: LazyLock<HashMap<&'static str, Permission>> =
    LazyLock::new(|| LIST.lines().filter_map(entry).collect());

fn entry(line: &'static str) -> Option<(&'static str, Permission)> {
    let (permission, name) = line.split_once(' ')?;
    let permission = match permission {
        "reference" => Permission::Reference,
        "instance" => Permission::Instance,
        "class" => Permission::Class,
        "call" => Permission::Call,
        _ => return None,
    };
    Some((name, permission))
}

/// The permission of a global by its canonical name; none where it is not listed.
pub(crate) fn permission(name: &str) -> Option<Permission> {
    LISTED.get(name).copied()
}

/// All entries of the list of model classes, as permission and `module.name`.
pub fn listed_globals() -> impl Iterator<Item = (&'static str, &'static str)> {
    LIST.lines().filter(|line| entry(line).is_some()).filter_map(|line| line.split_once(' '))
}

/// The versions of Python and its packages that the list of model classes was made with, a line for each
/// environment.
pub fn listed_versions() -> impl Iterator<Item = &'static str> {
    LIST.lines().filter_map(|line| line.strip_prefix(VERSIONS_PREFIX))
}
