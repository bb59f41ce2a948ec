//! Threads that own servers. A server dies with the thread that started it, so each gets a thread that stays.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use slipway_toolbox::servers::Running;

/// What a host is told.
enum Order {
    Kill(Sender<()>),
    Start(Sender<()>),
}

/// A server and the thread that owns it.
#[derive(Debug)]
pub(crate) struct Host {
    orders: Mutex<Sender<Order>>,
}

impl Host {
    /// Starts a server in a thread of its own and waits until it is ready. `folder` lives as long as the
    /// server.
    pub(crate) fn start<T: Send + 'static>(
        folder: Option<tempfile::TempDir>,
        start: impl Fn() -> (Running, T) + Send + 'static,
    ) -> (Self, String, T) {
        let (orders, inbox) = channel();
        let (ready, known) = channel();
        std::thread::spawn(move || {
            let _folder = folder;
            let (running, details) = start();
            let _ = ready.send((running.url.clone(), details));
            obey(running, &inbox, || start().0);
        });
        let (url, details) = known.recv().expect("the server starts");
        (Self { orders: Mutex::new(orders) }, url, details)
    }

    pub(crate) fn kill(&self) {
        self.order(Order::Kill);
    }

    pub(crate) fn start_again(&self) {
        self.order(Order::Start);
    }

    fn order(&self, order: impl Fn(Sender<()>) -> Order) {
        let (done, finished) = channel();
        self.orders.lock().expect("no test panics here").send(order(done)).expect("the host lives");
        finished.recv().expect("the host obeys");
    }
}

/// Until the host is dropped: its server is dropped with it.
fn obey(running: Running, inbox: &Receiver<Order>, start: impl Fn() -> Running) {
    let mut running = Some(running);
    while let Ok(order) = inbox.recv() {
        let done = match order {
            Order::Kill(done) => {
                running = None;
                done
            }
            Order::Start(done) => {
                running = Some(start());
                done
            }
        };
        let _ = done.send(());
    }
    drop(running);
}

const PREFIX: &str = "slipway-test-";

/// A folder under the system's temporary folder.
pub(crate) fn open_folder() -> (tempfile::TempDir, PathBuf) {
    static SWEPT: std::sync::Once = std::sync::Once::new();
    SWEPT.call_once(sweep);
    let prefix = format!("{PREFIX}{}-", std::process::id());
    let folder = tempfile::Builder::new().prefix(&prefix).tempdir().expect("a temporary folder");
    let path: &Path = folder.path();
    let path = path.to_path_buf();
    (folder, path)
}

/// Removes what test processes left that are gone: a test that fails does not get to drop its servers.
fn sweep() {
    for entry in std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|rest| rest.split('-').next());
        let gone = owner
            .and_then(|pid| pid.parse::<u32>().ok())
            .is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists());
        if gone {
            // Another test process may do the same at the same time.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A folder for a server that lives as long as the test process, removed by a process that outlives it.
pub(crate) fn lasting_folder() -> PathBuf {
    let (folder, path) = open_folder();
    let path_text = path.to_string_lossy().into_owned();
    // Statics are not dropped at the end of a process; a small shell waits for ours and cleans up.
    let script =
        format!("while kill -0 {} 2>/dev/null; do sleep 1; done; rm -rf '{path_text}'", std::process::id());
    let mut cleaner = std::process::Command::new("sh");
    cleaner.args(["-c", &script]);
    cleaner
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    if cleaner.spawn().is_ok() {
        let _ = folder.keep();
    }
    path
}
