//! Environments that MLflow writes: `conda.yaml` and `python_env.yaml`.

use std::io;

use super::{requirements::check_requirement, tree::Tree, yaml};
use crate::{
    input::Input,
    path,
    report::Code,
    scanner::{Place, Scanner},
};

/// Checks the value of one key of an environment.
type Check = fn(&mut Scanner<'_>, Place<'_>, &str, &Tree);

/// Reads a conda environment.
pub(super) fn scan_conda(
    scanner: &mut Scanner<'_>,
    input: &mut Input<'_>,
    place: Place<'_>,
) -> io::Result<()> {
    scan(scanner, input, place, |key| match key {
        "name" => Some(|scanner, place, key, value| check_all(scanner, place, key, value, |_| true)),
        "channels" => Some(|scanner, place, key, value| check_all(scanner, place, key, value, is_channel)),
        "dependencies" => Some(check_dependencies),
        _ => None,
    })
}

/// Reads a Python environment.
pub(super) fn scan_python_env(
    scanner: &mut Scanner<'_>,
    input: &mut Input<'_>,
    place: Place<'_>,
) -> io::Result<()> {
    scan(scanner, input, place, |key| match key {
        "name" | "python" => {
            Some(|scanner, place, key, value| check_all(scanner, place, key, value, is_python))
        }
        "build_dependencies" | "dependencies" => Some(check_pip),
        _ => None,
    })
}

/// Reads an environment whose known keys have a check each.
fn scan(
    scanner: &mut Scanner<'_>,
    input: &mut Input<'_>,
    place: Place<'_>,
    check_of: fn(&str) -> Option<Check>,
) -> io::Result<()> {
    let Some(tree) = yaml::read(scanner, input, place)? else { return Ok(()) };
    for (key, value) in entries(scanner, place, &tree) {
        match check_of(key) {
            Some(check) => check(scanner, place, key, value),
            None => unknown(scanner, place, key),
        }
    }
    Ok(())
}

fn entries<'t>(scanner: &mut Scanner<'_>, place: Place<'_>, tree: &'t Tree) -> Vec<(&'t str, &'t Tree)> {
    if !matches!(tree, Tree::Map(_)) {
        scanner.find(Code::NotUnderstood, place.path, "it is not a map of names, channels and dependencies");
    }
    tree.entries().iter().map(|(key, value)| (&**key, value)).collect()
}

fn unknown(scanner: &mut Scanner<'_>, place: Place<'_>, key: &str) {
    let detail = format!("its key `{}` is not one of those that MLflow writes", path::shown(key));
    scanner.find(Code::NotUnderstood, place.path, detail);
}

fn items(value: &Tree) -> &[Tree] {
    match value {
        Tree::List(items) => items,
        Tree::Null => &[],
        other => std::slice::from_ref(other),
    }
}

fn check_all(
    scanner: &mut Scanner<'_>,
    place: Place<'_>,
    key: &str,
    value: &Tree,
    is_allowed: fn(&str) -> bool,
) {
    for item in items(value) {
        if !item.as_text().is_some_and(is_allowed) {
            let detail =
                format!("its `{key}` has an entry that may lead to code from elsewhere, or is not text");
            scanner.find(Code::InstallCode, place.path, detail);
        }
    }
}

fn check_dependencies(scanner: &mut Scanner<'_>, place: Place<'_>, key: &str, value: &Tree) {
    for item in items(value) {
        match item {
            Tree::Map(entries) if entries.iter().all(|(key, _)| &**key == "pip") => {
                entries.iter().for_each(|(key, list)| check_pip(scanner, place, key, list));
            }
            other => check_all(scanner, place, key, other, is_conda_package),
        }
    }
}

fn check_pip(scanner: &mut Scanner<'_>, place: Place<'_>, _key: &str, value: &Tree) {
    for item in items(value) {
        let checked = match item.as_text() {
            Some(line) => check_requirement(line.trim()),
            None => Err("a requirement is not text".to_owned()),
        };
        if let Err(why) = checked {
            scanner.find(Code::InstallCode, place.path, format!("the requirement {why}"));
        }
    }
}

fn is_python(version: &str) -> bool {
    version.chars().all(|sign| sign.is_ascii_alphanumeric() || "._-".contains(sign))
}

/// The name of a channel; its URL could be any server's.
fn is_channel(channel: &str) -> bool {
    !channel.is_empty() && channel.chars().all(|sign| sign.is_ascii_alphanumeric() || "_-".contains(sign))
}

/// `name`, with a version and a build where there are any, and perhaps a channel before it.
fn is_conda_package(text: &str) -> bool {
    let package = match text.split_once("::") {
        Some((channel, package)) if is_channel(channel) => package,
        Some(_) => return false,
        None => text,
    };
    package.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
        && package.chars().all(|sign| sign.is_ascii_alphanumeric() || " ._-<>=!~,*|+".contains(sign))
        && !package.ends_with(".conda")
        && !package.ends_with(".bz2")
}
