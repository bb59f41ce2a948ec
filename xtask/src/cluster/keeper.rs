//! The process that owns a cluster which outlives the command that started it.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use slipway_kubernetes_testkit::{Cluster, Level, Options};
use slipway_toolbox::process;

/// What a keeper writes when the cluster works.
const READY: &str = "ready";
/// Before the words of an error.
const FAILED: &str = "failed: ";
/// Its process id, in the cluster's folder.
const PID: &str = "keeper.pid";

/// Starts a keeper in a session of its own, and waits until its cluster works.
pub(super) fn start(level: Level, audit: bool, name: &str) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("the path of this program is unknown")?;
    let mut command = Command::new(program);
    command.args(["cluster", "--name", name, "keep", "--level", level.name()]);
    if audit {
        command.arg("--audit");
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    process::own_session(&mut command);
    let mut keeper = command.spawn().context("cannot start the process that owns the cluster")?;
    let output = keeper.stdout.take().context("the owner of the cluster has no output")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        if line == READY {
            return Ok(());
        }
        match line.strip_prefix(FAILED) {
            Some(reason) => bail!("{}", reason.replace('\u{1f}', "\n")),
            None => eprintln!("    {line}"),
        }
    }
    bail!("the process that owns the cluster ended with {}", keeper.wait()?)
}

/// Owns a cluster until it is killed: then the cluster ends.
pub(super) fn keep(folder: &Path, level: Level, audit: bool) -> anyhow::Result<()> {
    let say = |line: &str| {
        // The command that started us may be gone.
        let _ = writeln!(std::io::stdout(), "{line}");
    };
    let options = Options { folder: Some(folder.to_path_buf()), audit, ..Options::new(level) };
    let started = Cluster::start(&options, &mut |message| say(message)).map_err(anyhow::Error::from);
    let started = started.and_then(|cluster| {
        let pid = folder.join(PID);
        std::fs::write(&pid, std::process::id().to_string())
            .with_context(|| format!("cannot write {}", pid.display()))?;
        Ok(cluster)
    });
    let _cluster = match started {
        Ok(cluster) => cluster,
        Err(error) => {
            // One line is one message.
            say(&format!("{FAILED}{}", format!("{error:#}").replace('\n', "\u{1f}")));
            return Err(error);
        }
    };
    say(READY);
    close_output()?;
    loop {
        std::thread::park();
    }
}

/// A pipe of the command that started us must not stay open with us.
fn close_output() -> anyhow::Result<()> {
    let nothing = File::options().write(true).open("/dev/null").context("cannot open /dev/null")?;
    nix::unistd::dup2_stdout(nothing).context("cannot close the output")
}

/// The keeper of the cluster in a folder.
pub(super) fn pid(folder: &Path) -> Option<i32> {
    let pid = std::fs::read_to_string(folder.join(PID)).ok()?.trim().parse().ok()?;
    process::runs_with(pid, &["cluster", "keep"]).then_some(pid)
}
