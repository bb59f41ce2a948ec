//! Steps of the wall clock of single processes, by a library that is loaded before libc (`clock.c`).

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::faults::Replica;
use super::processes::Environment;

const SOURCE: &str = include_str!("clock.c");

/// The library, and a file with the offset of each replica.
#[derive(Debug)]
pub(super) struct Clocks {
    dir: PathBuf,
    library: Option<PathBuf>,
}

impl Clocks {
    /// Compiles the library. Without a C compiler no clock is stepped.
    pub(super) fn new(dir: &Path) -> anyhow::Result<Self> {
        let dir = dir.join("clocks");
        std::fs::create_dir_all(&dir)?;
        let (source, library) = (dir.join("clock.c"), dir.join("clock.so"));
        std::fs::write(&source, SOURCE)?;
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(&source).arg("-ldl");
        let compiled = compiler.status().is_ok_and(|status| status.success());
        let clocks = Self { dir, library: compiled.then_some(library) };
        for replica in Replica::all() {
            clocks.step(replica, 0)?;
        }
        Ok(clocks)
    }

    /// Why no clock can be stepped, where none can.
    pub(super) fn missing(&self) -> Option<&str> {
        self.library.is_none().then_some("`cc` does not compile the library for it")
    }

    /// Variables with which a replica follows its clock.
    pub(super) fn environment(&self, replica: Replica) -> Environment {
        let Some(library) = &self.library else { return Environment::new() };
        let text = |path: &Path| path.display().to_string();
        [("LD_PRELOAD", text(library)), ("SLIPWAY_CHAOS_CLOCK", text(&self.file(replica)))]
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    }

    /// Sets the difference between a replica's clock and the machine's, in milliseconds.
    pub(super) fn step(&self, replica: Replica, by_ms: i64) -> anyhow::Result<()> {
        let path = self.file(replica);
        // Not truncated: the file is mapped.
        let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let written = file.and_then(|mut file| file.write_all(&(by_ms * 1_000_000).to_ne_bytes()));
        written.with_context(|| path.display().to_string())
    }

    fn file(&self, replica: Replica) -> PathBuf {
        self.dir.join(replica.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::super::faults::Service;
    use super::*;

    /// Seconds of the wall clock and of the monotonic clock of a process.
    fn clocks_of(environment: &Environment) -> [f64; 2] {
        let mut shell = Command::new("sh");
        let output = shell.args(["-c", "date +%s.%N; cat /proc/uptime"]).envs(environment).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let numbers: Vec<f64> =
            text.lines().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
        [numbers[0], numbers[1]]
    }

    #[test]
    fn the_clock_of_a_process_is_stepped_and_no_other_clock() {
        let dir = tempfile::tempdir().unwrap();
        let clocks = Clocks::new(dir.path()).unwrap();
        let replica = Replica { service: Service::Registry, number: 0 };
        let environment = clocks.environment(replica);
        clocks.step(replica, -3_600_000).unwrap();
        let [stepped, _] = clocks_of(&environment);
        let [own, _] = clocks_of(&Environment::new());
        assert!((3_000.0..3_601.0).contains(&(own - stepped)), "{own} {stepped}");
        clocks.step(replica, 0).unwrap();
        assert!(clocks_of(&environment)[0] >= own);
    }
}
