//! Lists of Python packages as pip reads them: PEP 508 names with versions from the package index. Every
//! other kind of line makes an installer run code from somewhere else. Which packages are named is not
//! judged.

use std::io;

use super::{odd_line_end, read_text};
use crate::{
    input::Input,
    path,
    report::Code,
    scanner::{Place, Scanner},
};

/// Options that name another list of the same folder.
const LIST_OPTIONS: &[&str] = &["-r", "--requirement", "-c", "--constraint"];
/// Ends of names that pip takes for the path of a package.
const PACKAGE_SUFFIXES: &[&str] =
    &[".whl", ".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz", ".xz", ".txz", ".lzma", ".tlz", ".egg"];
const OPERATORS: &[&str] = &["===", "==", "~=", "!=", "<=", ">=", "<", ">"];

/// Whether a file is such a list, by its name.
pub(super) fn is_name(name: &str) -> bool {
    let name = name.to_lowercase();
    (name.contains("requirements") || name.contains("constraints"))
        && (name.ends_with(".txt") || name.ends_with(".in"))
}

/// Reads a list to its end.
pub(super) fn scan(scanner: &mut Scanner<'_>, input: &mut Input<'_>, place: Place<'_>) -> io::Result<()> {
    let Some(text) = read_text(scanner, input, place)? else { return Ok(()) };
    if let Some((at, sign)) = odd_line_end(&text) {
        let detail = format!("at byte {at} it has U+{:04X}, which ends a line for pip alone", sign as u32);
        scanner.find(Code::InstallCode, place.path, detail);
    }
    let mut at = 0;
    for (number, line) in text.split_inclusive(['\n', '\r']).enumerate() {
        if let Err(why) = check_line(line, number) {
            scanner.find(Code::InstallCode, place.path, format!("the line at byte {at} {why}"));
        }
        at += line.len();
    }
    Ok(())
}

/// Checks a line of a file; its number begins at 0.
fn check_line(line: &str, number: usize) -> Result<(), String> {
    let line = line.trim();
    if let Some(comment) = line.strip_prefix('#') {
        // pip decodes the file by what the first two lines say.
        let coding = comment.find("coding").filter(|_| number < 2).and_then(|at| comment.get(at + 6..));
        let coding = coding.and_then(|rest| rest.strip_prefix([':', '=']));
        return match coding {
            Some(named) if !named.trim().to_lowercase().starts_with("utf-8") => {
                Err("declares an encoding, by which pip reads other lines than these".to_owned())
            }
            _ => Ok(()),
        };
    }
    check_requirement(line.split(" #").next().unwrap_or(line).trim_end())
}

/// Checks one requirement, or the option that names another list.
pub(super) fn check_requirement(line: &str) -> Result<(), String> {
    let refuse = |why: &str| Err(format!("`{}` {why}", path::shown(line)));
    if line.is_empty() {
        return Ok(());
    }
    if line.contains(['$', '\\', '\t']) || odd_line_end(line).is_some() {
        return refuse("continues on another line or takes a variable");
    }
    if line.starts_with('-') {
        let (option, file) = line.split_once([' ', '=']).unwrap_or((line, ""));
        let file = file.trim();
        let is_list = LIST_OPTIONS.contains(&option)
            && is_name(file)
            && !path::leaves_folder(file)
            && !file.contains([' ', '/', '\\', ':']);
        return if is_list {
            Ok(())
        } else {
            refuse("is an option that can make pip run code from elsewhere")
        };
    }
    let (requirement, marker) = line.split_once(';').unwrap_or((line, ""));
    let hashes = requirement.find(" --hash=").unwrap_or(requirement.len());
    let (requirement, hashes) = requirement.split_at(hashes);
    let is_hash = |part: &str| part.starts_with("--hash=sha") && !part.contains([';', '/']);
    let is_marker = |sign: char| sign.is_ascii_alphanumeric() || " '\"<>=!~().,_-*+".contains(sign);
    if !hashes.split_whitespace().all(is_hash) || !marker.chars().all(is_marker) {
        return refuse("is not understood");
    }
    match versions_of(requirement) {
        Some(versions) if versions.is_empty() || versions.split(',').all(is_version) => Ok(()),
        _ => refuse("is not a name with versions; it may install code from a URL or a path"),
    }
}

/// What follows the name and the extras of a requirement; none where there is no name.
fn versions_of(requirement: &str) -> Option<&str> {
    let is_sign = |sign: char| sign.is_ascii_alphanumeric() || "._-".contains(sign);
    let end = requirement.find(|sign| !is_sign(sign)).unwrap_or(requirement.len());
    let (name, mut rest) = requirement.split_at(end);
    let lower = name.to_lowercase();
    let is_package = PACKAGE_SUFFIXES.iter().any(|suffix| lower.ends_with(suffix));
    if is_package || !name.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return None;
    }
    if let Some(extras) = rest.trim_start().strip_prefix('[') {
        let (extras, behind) = extras.split_once(']')?;
        if !extras.chars().all(|sign| is_sign(sign) || sign == ',' || sign == ' ') {
            return None;
        }
        rest = behind;
    }
    let rest = rest.trim();
    Some(rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(rest))
}

fn is_version(clause: &str) -> bool {
    let clause = clause.trim();
    let version = OPERATORS.iter().find_map(|operator| clause.strip_prefix(operator));
    version.is_some_and(|version| {
        let version = version.trim();
        !version.is_empty()
            && version.chars().all(|sign| sign.is_ascii_alphanumeric() || ".*+!_-".contains(sign))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_versions_are_understood() {
        for line in [
            "",
            "# a comment",
            "mlflow==3.17.2",
            "numpy",
            "scikit-learn >= 1.0, < 2",
            "torch==2.1.0+cpu",
            "a[b,c]~=1.4.2 ; python_version >= '3.8' and sys_platform == \"linux\"",
            "x (>=1)",
            "-r requirements.txt",
            "-c constraints.txt",
            "# -*- coding: utf-8 -*-",
            "x==1 # why",
            "x==1 --hash=sha256:0a",
        ] {
            assert_eq!(check_line(line, 0), Ok(()), "{line}");
        }
    }

    #[test]
    fn lines_that_run_code_are_not() {
        for line in [
            "-e .",
            "--editable=git+https://x/y",
            "git+https://x/y",
            "x @ https://x/y.whl",
            "./x",
            "/x",
            "x/y",
            "--index-url https://x",
            "-i https://x",
            "--extra-index-url=https://x",
            "--find-links x",
            "-f x",
            "--trusted-host x",
            "--pre",
            "-r ../requirements.txt",
            "-r notes.txt",
            "-r https://x/y.txt",
            "-c /etc/x.txt",
            "x.whl",
            "x.tar.gz",
            "x==1 --config-settings=a",
            "x==1 \\",
            "x${HOME}",
            "# coding: utf-7",
            "x==1;os.system('a')/b",
            "file:x",
            "x --global-option=a",
            "x==1, @ y",
        ] {
            assert!(check_line(line, 0).is_err(), "{line}");
        }
    }
}
