//! What deny.toml asks of the crates we depend on: licenses, sources, known vulnerabilities.

use std::process::Stdio;

use crate::build::cargo;
use crate::findings::run;

/// Runs cargo-deny as far as this machine can, and says what was left out.
pub(super) fn check() -> anyhow::Result<()> {
    let quietly = |arguments: &[&str]| {
        let mut command = cargo();
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if !quietly(&["deny", "--version"]) {
        println!("left out: cargo-deny is not installed (cargo install cargo-deny --locked)");
        return Ok(());
    }
    // cargo-deny reads the crates of every platform, and a build downloads those of its own only.
    if !quietly(&["fetch", "--locked"]) {
        println!(
            "left out: crates of other platforms are missing, and crates.io cannot be reached from here"
        );
        return Ok(());
    }
    run(cargo().args(["deny", "--locked", "--log-level", "error", "check", "bans", "licenses", "sources"]))?;
    if !quietly(&["deny", "fetch", "db"]) {
        println!(
            "left out: advisories, since https://github.com/RustSec/advisory-db cannot be reached from here"
        );
        return Ok(());
    }
    run(cargo().args(["deny", "--log-level", "error", "check", "advisories"]))
}
