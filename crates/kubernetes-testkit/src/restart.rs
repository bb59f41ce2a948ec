//! Crashes of the programs of a running cluster.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::processes::{LIMIT, PAUSE, children_of, launcher};
use crate::{Cluster, Error, Level, ProcessState};

impl Cluster {
    /// Kills kube-apiserver as a crash would, starts it again, and waits until it is ready. Watches and
    /// connections of all clients end.
    ///
    /// # Errors
    /// It does not run, does not end or does not start.
    pub fn restart_api_server(&self) -> Result<(), Error> {
        let program = "kube-apiserver";
        let running = self.processes().into_iter().find(|process| process.program == program);
        let process = running.ok_or_else(|| Error::NotRunning { folder: self.folder().to_path_buf() })?;
        let mut command = self.started_as(&process)?;
        self.kill(&process)?;
        let path = self.layout().log(program);
        let log = std::fs::File::options().append(true).open(&path);
        let log = log.map_err(Error::file("cannot open", &path))?;
        let errors = log.try_clone().map_err(Error::file("cannot share", &path))?;
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let script = self.layout().script("launch.sh");
        self.adopt(command.spawn().map_err(Error::file("cannot run", &script))?);
        wait("kube-apiserver is ready", || {
            self.kubectl(&["get", "--raw", "/readyz"]).map(drop).map_err(|error| error.to_string())
        })
    }

    /// The command by which a process was started.
    fn started_as(&self, process: &ProcessState) -> Result<Command, Error> {
        let words = of_process(process.pid, "cmdline")?;
        let mut command = launcher(self.layout());
        let mut words = words.as_slice();
        if self.level() == Level::Node {
            // The record is of `nsenter`, which enter.sh becomes.
            words = words.iter().position(|word| word == "--").map_or(words, |end| &words[end + 1..]);
            command.arg("/bin/sh").arg(self.layout().script("enter.sh")).arg(self.folder());
        }
        let variables = of_process(process.pid, "environ")?;
        let variables: HashMap<&str, &str> =
            variables.iter().filter_map(|variable| variable.split_once('=')).collect();
        command.args(words).env_clear().envs(variables);
        Ok(command)
    }

    fn kill(&self, process: &ProcessState) -> Result<(), Error> {
        // On the node, `nsenter` waits for its child, which is the program.
        let children = children_of(process.pid)?;
        let children: Vec<i32> = children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
        let own = i32::try_from(process.pid).unwrap_or_default();
        for pid in if self.level() == Level::Node { children } else { vec![own] } {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        wait("the end of kube-apiserver", || match self.processes().contains(process) {
            true => Err(format!("process {} runs", process.pid)),
            false => Ok(()),
        })
    }
}

/// The words of a file of `/proc` about a process.
fn of_process(pid: u32, name: &str) -> Result<Vec<String>, Error> {
    let path = format!("/proc/{pid}/{name}");
    let bytes = std::fs::read(&path).map_err(Error::file("cannot read", Path::new(&path)))?;
    let words = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    Ok(words.map(|word| String::from_utf8_lossy(word).into_owned()).collect())
}

fn wait(condition: &str, check: impl Fn() -> Result<(), String>) -> Result<(), Error> {
    let begin = Instant::now();
    loop {
        let Err(last) = check() else { return Ok(()) };
        if begin.elapsed() > LIMIT {
            return Err(Error::Timeout { condition: condition.to_owned(), limit: LIMIT, last });
        }
        std::thread::sleep(PAUSE);
    }
}
