//! A PgBouncer in transaction mode, in front of a Postgres of the test.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use slipway_testkit::free_port;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);
/// The first version that keeps prepared statements in transaction mode.
const MIN_VERSION: (u32, u32) = (1, 21);

/// It ends when dropped.
pub(crate) struct PgBouncer {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl PgBouncer {
    /// The program, where there is one that is new enough.
    pub(crate) fn program() -> Option<String> {
        let program = std::env::var("SLIPWAY_TEST_PGBOUNCER").unwrap_or_else(|_| "pgbouncer".to_owned());
        let output = Command::new(&program).arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut numbers = text.lines().next()?.rsplit(' ').next()?.split('.').map(|part| part.parse().ok());
        let version: (u32, u32) = (numbers.next()??, numbers.next()??);
        (version >= MIN_VERSION).then_some(program)
    }

    /// Starts it as docs/operations.md says: an entry for each schema, which sets what a session has, and one
    /// of the database itself, which sets nothing.
    pub(crate) fn start(program: &str, postgres: &str, schemas: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (login, address) = postgres.split_once("://").unwrap().1.split_once('@').unwrap();
        let (user, password) = login.split_once(':').unwrap();
        let server_port = address.split(['/', ':']).nth(1).unwrap();
        let port = free_port().unwrap();
        let server =
            format!("host=127.0.0.1 port={server_port} dbname=slipway user={user} password={password}");
        let session = |schema: &str| {
            format!(
                "{schema} = {server} connect_query='SET search_path TO {schema}; \
                 SET statement_timeout TO 30000; \
                 SET idle_in_transaction_session_timeout TO 5000'\n"
            )
        };
        let databases: String = schemas.iter().map(|schema| session(schema)).collect();
        let configuration = format!(
            "[databases]\n{databases}slipway = {server}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = transaction\ndefault_pool_size = 20\nmax_client_conn = 200\n\
             ignore_startup_parameters = options\nmax_prepared_statements = 200\n"
        );
        let file = dir.path().join("pgbouncer.ini");
        std::fs::write(&file, configuration).unwrap();
        let mut command = Command::new(program);
        // It refuses to run as root.
        if std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
            command.args(["-u", "nobody"]);
        }
        let child = command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = child.spawn().unwrap();
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < PATIENCE, "pgbouncer does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, port, _dir: dir }
    }

    /// Where clients reach an entry of it.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://slipway@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
