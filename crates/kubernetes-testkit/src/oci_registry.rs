//! An OCI registry for tests: that of the distribution project.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use slipway_toolbox::{process, servers};

#[cfg(doc)]
use crate::REQUIRED_LEVEL;
use crate::shared::program_or_left_out;
use crate::{Error, programs};

const START_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// `tester` with the password `secret`, as htpasswd writes it.
const USERS: &str = "tester:$2b$04$1W2nEzoOD2jI5FM8zzU8wuCW6Ff.klQuJg72sT0hNLETttPM/qZB6\n";

/// A registry of one's own on this machine, which ends when it is dropped, and with the thread that started
/// it. It keeps what is pushed in its folder, which is deleted then.
#[derive(Debug)]
pub struct OciRegistry {
    /// Its host and port.
    pub host: String,
    child: Child,
    _folder: tempfile::TempDir,
}

impl OciRegistry {
    /// User of a registry with `protected`.
    pub const USER: &str = "tester";
    /// Password of the user.
    pub const PASSWORD: &str = "secret";

    /// Starts a registry; `protected`: that knows one user and refuses others. `None` on a machine that
    /// has not built the program and cannot build it; the reason is printed.
    ///
    /// # Panics
    /// It does not start; or it cannot be built, and [`REQUIRED_LEVEL`] says that tests must run.
    #[expect(clippy::expect_used, reason = "for tests, which can only fail")]
    pub fn own(protected: bool) -> Option<Self> {
        let program = program_or_left_out("an OCI registry", programs::oci_registry(&mut |_| {}))?;
        Some(Self::start(&program, protected).expect("the OCI registry starts"))
    }

    fn start(program: &Path, protected: bool) -> Result<Self, Error> {
        let folder =
            tempfile::tempdir().map_err(Error::file("cannot make a folder in", &std::env::temp_dir()))?;
        let port = servers::free_port()?;
        let root = folder.path().display();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {root}/blobs}}}}\n\
             http: {{addr: \"127.0.0.1:{port}\", secret: test}}\n"
        );
        if protected {
            config.push_str(&format!("auth: {{htpasswd: {{realm: test, path: {root}/users}}}}\n"));
        }
        let path = folder.path().join("config.yaml");
        for (path, content) in [(&path, config.as_str()), (&folder.path().join("users"), USERS)] {
            std::fs::write(path, content).map_err(Error::file("cannot write", path))?;
        }
        let mut command = Command::new(program);
        command.arg("serve").arg(&path).stdin(Stdio::null()).stdout(Stdio::null());
        command.env("OTEL_TRACES_EXPORTER", "none");
        process::die_with_parent(&mut command);
        let child = command.spawn().map_err(Error::file("cannot start", program))?;
        let registry = Self { host: format!("127.0.0.1:{port}"), child, _folder: folder };
        registry.wait()?;
        Ok(registry)
    }

    fn wait(&self) -> Result<(), Error> {
        let started = Instant::now();
        loop {
            match TcpStream::connect(&self.host) {
                Ok(_) => return Ok(()),
                Err(error) if started.elapsed() > START_TIMEOUT => {
                    return Err(Error::file("cannot connect to", Path::new(&self.host))(error));
                }
                Err(_) => std::thread::sleep(POLL_INTERVAL),
            }
        }
    }
}

impl Drop for OciRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
