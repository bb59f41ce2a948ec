//! The shared libraries that programs need.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;

/// The shared libraries of programs and libraries, at their paths on this machine.
pub(crate) fn of(programs: &[PathBuf]) -> Result<Vec<String>, Error> {
    if programs.is_empty() {
        return Ok(Vec::new());
    }
    let listed =
        Command::new("ldd").args(programs).output().map_err(Error::file("cannot run", "ldd".as_ref()))?;
    Ok(listed_in(&String::from_utf8_lossy(&listed.stdout)))
}

/// Whether it is a program or a library.
pub(crate) fn is_elf(path: &Path) -> bool {
    let mut start = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == *b"\x7fELF"
}

/// Paths in the output of `ldd`: `libc.so.6 => /lib/libc.so.6 (0x…)` and `/lib64/ld-linux-x86-64.so.2 (0x…)`.
fn listed_in(listed: &str) -> Vec<String> {
    let path = |line: &str| {
        let before = line.trim().split_once(" (0x")?.0;
        let path = before.rsplit(" => ").next()?;
        path.starts_with('/').then(|| without_parents(path))
    };
    let mut paths: Vec<String> = listed.lines().filter_map(path).collect();
    paths.sort();
    paths.dedup();
    paths
}

/// Programs that find their libraries next to themselves have paths such as `/opt/bin/../lib/libx.so`.
fn without_parents(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_the_paths_that_ldd_found() {
        let listed = "/bin/a:\n\tlinux-vdso.so.1 (0x7ffd)\n\tlibc.so.6 => /lib/libc.so.6 (0x7f)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x7f)\n\tlibgone.so => not found\n/bin/b:\n\
                      \tlibc.so.6 => /lib/libc.so.6 (0x7f)\n\tlibx.so => /opt/bin/../lib/libx.so (0x7f)\n";
        let expected = ["/lib/libc.so.6", "/lib64/ld-linux-x86-64.so.2", "/opt/lib/libx.so"];
        assert_eq!(listed_in(listed), expected);
    }
}
