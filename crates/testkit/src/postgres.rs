//! Postgres: one server a test process, one database a test; or a server of one's own.

use std::path::Path;
use std::sync::OnceLock;

use slipway_toolbox::servers::{self, PostgresOptions};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::hosts::{Host, lasting_folder, open_folder};
use crate::{account, toolbox};

/// A database of one's own.
#[derive(Debug, Clone)]
pub struct TestDatabase {
    /// `postgres://user:password@127.0.0.1:<port>/<database>`.
    pub url: String,
}

/// A server of one's own; gone when dropped.
#[derive(Debug)]
pub struct TestPostgres {
    host: Host,
    /// `postgres://user:password@127.0.0.1:<port>/slipway`.
    pub url: String,
}

impl TestPostgres {
    /// Ends it at once, as a crash would.
    pub async fn kill(&self) {
        tokio::task::block_in_place(|| self.host.kill());
    }

    /// Starts it again on the same port and data.
    pub async fn start_again(&self) {
        tokio::task::block_in_place(|| self.host.start_again());
    }
}

fn options(path: &Path) -> PostgresOptions {
    PostgresOptions {
        binaries: toolbox().postgres(&mut |_| {}).expect("Postgres is there"),
        dir: path.join("postgres"),
        log_dir: path.join("logs"),
        port: servers::free_port().expect("a free port"),
        account: account(),
        roles: Vec::new(),
    }
}

pub(crate) async fn database() -> TestDatabase {
    static SHARED: OnceLock<(Host, String)> = OnceLock::new();
    let server = tokio::task::spawn_blocking(|| {
        SHARED.get_or_init(|| {
            let options = options(&lasting_folder());
            let (host, url, ()) = Host::start(None, move || {
                (servers::start_postgres(&options).expect("Postgres starts").0, ())
            });
            (host, url)
        })
    })
    .await
    .expect("Postgres starts");
    let name = format!("test_{}", uuid::Uuid::new_v4().simple());
    let mut connection = PgConnection::connect(&server.1).await.expect("Postgres answers");
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .execute(&mut connection)
        .await
        .expect("a database of one's own");
    let base = server.1.rsplit_once('/').map_or(server.1.as_str(), |(base, _)| base);
    TestDatabase { url: format!("{base}/{name}") }
}

pub(crate) async fn own() -> TestPostgres {
    tokio::task::spawn_blocking(|| {
        let (folder, path) = open_folder();
        let options = options(&path);
        let (host, url, ()) = Host::start(Some(folder), move || {
            (servers::start_postgres(&options).expect("Postgres starts").0, ())
        });
        TestPostgres { host, url }
    })
    .await
    .expect("Postgres starts")
}
