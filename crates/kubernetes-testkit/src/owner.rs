//! The end of a cluster: a small script ends it when its owner ends, however that ends.

use std::fs::File;
use std::process::{Child, Command, Stdio};

use nix::fcntl::Flock;
use slipway_toolbox::process;

use crate::Error;
use crate::layout::Layout;

/// Owns a cluster. Dropping it ends the cluster, and so does the end of this process.
#[derive(Debug)]
pub(crate) struct Owner {
    /// `end.sh`: it waits until the pipe to it is closed.
    ending: Child,
    children: Vec<Child>,
    _lock: Flock<File>,
}

impl Owner {
    pub(crate) fn new(layout: &Layout, lock: Flock<File>) -> Result<Self, Error> {
        let ending = start(layout, &lock, Stdio::piped())?;
        Ok(Self { ending, children: Vec::new(), _lock: lock })
    }

    /// A process of the cluster, which has ended when the cluster has.
    pub(crate) fn adopt(&mut self, child: Child) {
        self.children.push(child);
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        drop(self.ending.stdin.take());
        let _ = self.ending.wait();
        for child in &mut self.children {
            let _ = child.wait();
        }
    }
}

/// Ends a cluster whose owner is gone.
pub(crate) fn end(layout: &Layout, lock: &Flock<File>) -> Result<(), Error> {
    let folder = layout.folder().to_path_buf();
    let script = layout.script("end.sh");
    if !script.exists() {
        return std::fs::remove_dir_all(&folder).map_err(Error::file("cannot delete", &folder));
    }
    let status = start(layout, lock, Stdio::null())?.wait().map_err(Error::file("cannot run", &script))?;
    if status.success() {
        return Ok(());
    }
    let reason = "processes of a cluster whose owner is gone cannot be ended".to_owned();
    Err(Error::Folder { folder, reason })
}

/// The script holds the lock as its standard output, so that the folder is in use until it ends.
fn start(layout: &Layout, lock: &Flock<File>, input: Stdio) -> Result<Child, Error> {
    let script = layout.script("end.sh");
    let held = lock.try_clone().map_err(Error::file("cannot share the lock of", layout.folder()))?;
    let log = layout.log("end");
    let errors = File::create(&log).map_err(Error::file("cannot make", &log))?;
    let mut command = Command::new("/bin/sh");
    command.arg(&script).arg(layout.folder()).stdin(input).stdout(held).stderr(errors);
    // Ctrl-C at our terminal ends us; the script has to end the cluster afterwards.
    process::own_session(&mut command);
    command.spawn().map_err(Error::file("cannot run", &script))
}
