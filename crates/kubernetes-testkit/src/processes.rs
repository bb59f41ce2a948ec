//! Starting the programs of a cluster, and waiting for what they do.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::tail;
use crate::layout::Layout;
use crate::{Error, Level};

/// A compiler that takes all CPUs may delay the start of a node by minutes.
pub(crate) const LIMIT: Duration = Duration::from_secs(600);
pub(crate) const PAUSE: Duration = Duration::from_millis(100);
const SHOWN_LINES: usize = 15;

/// A program of the cluster, while the cluster starts.
pub(crate) struct Process {
    program: &'static str,
    child: Child,
}

/// The programs that have been started.
pub(crate) struct Processes<'layout> {
    layout: &'layout Layout,
    level: Level,
    started: Vec<Process>,
}

impl<'layout> Processes<'layout> {
    pub(crate) fn new(layout: &'layout Layout, level: Level) -> Self {
        Self { layout, level, started: Vec::new() }
    }

    /// Starts a program; at level `node`, on the node.
    pub(crate) fn start(
        &mut self,
        program: &'static str,
        path: &Path,
        flags: &[String],
        environment: &[(&str, String)],
    ) -> Result<(), Error> {
        let mut command = launcher(self.layout);
        if self.level == Level::Node {
            command.arg("/bin/sh").arg(self.layout.script("enter.sh")).arg(self.layout.folder());
        }
        command.arg(path).args(flags).envs(environment.iter().map(|(name, value)| (name, value)));
        self.spawn(program, &mut command)
    }

    /// Makes the machine of level `node`.
    pub(crate) fn start_node(&mut self, name: &str) -> Result<(), Error> {
        let mut command = launcher(self.layout);
        command.arg("/bin/sh").arg(self.layout.script("node.sh")).arg(self.layout.folder()).arg(name);
        self.spawn("node", &mut command)?;
        let ready = self.layout.path("node.ready");
        self.wait("namespaces of the node", &mut || found(ready.exists()))?;
        let outside = self.started.last().map(|process| process.child.id()).unwrap_or_default();
        // `unshare` has one child: the first process of the namespace.
        let first = children_of(outside)?;
        let path = self.layout.path("node.pid");
        std::fs::write(&path, first.trim()).map_err(Error::file("cannot write", &path))
    }

    fn spawn(&mut self, program: &'static str, command: &mut Command) -> Result<(), Error> {
        let path = self.layout.log(program);
        let log = File::create(&path).map_err(Error::file("cannot make", &path))?;
        let errors = log.try_clone().map_err(Error::file("cannot share", &path))?;
        // Programs write caches to their home.
        command.env("HOME", self.layout.folder());
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let child = command.spawn().map_err(Error::file("cannot run", &self.layout.script("launch.sh")))?;
        self.started.push(Process { program, child });
        Ok(())
    }

    /// Waits until `check` returns nothing; it returns what is missing.
    ///
    /// # Errors
    /// A program ends, or the condition does not become true within some minutes.
    pub(crate) fn wait(
        &mut self,
        condition: &str,
        check: &mut dyn FnMut() -> Result<(), String>,
    ) -> Result<(), Error> {
        let begin = Instant::now();
        loop {
            let Err(last) = check() else { return Ok(()) };
            for process in &mut self.started {
                if let Ok(Some(status)) = process.child.try_wait() {
                    let log = std::fs::read(self.layout.log(process.program)).unwrap_or_default();
                    let log = tail(&String::from_utf8_lossy(&log), SHOWN_LINES);
                    return Err(Error::Ended { program: process.program, status: status.to_string(), log });
                }
            }
            if begin.elapsed() > LIMIT {
                return Err(Error::Timeout { condition: condition.to_owned(), limit: LIMIT, last });
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// The processes, in the order in which they were started.
    pub(crate) fn into_children(self) -> impl Iterator<Item = Child> {
        self.started.into_iter().map(|process| process.child)
    }
}

/// IDs of the children that the main thread of a process has started, separated by spaces.
pub(crate) fn children_of(pid: u32) -> Result<String, Error> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    std::fs::read_to_string(&path).map_err(Error::file("cannot read", Path::new(&path)))
}

/// For [`Processes::wait`].
pub(crate) fn found(condition: bool) -> Result<(), String> {
    if condition { Ok(()) } else { Err("nothing yet".to_owned()) }
}

/// Runs a program that is on record.
pub(crate) fn launcher(layout: &Layout) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arg(layout.script("launch.sh")).arg(layout.folder());
    command
}
