//! Facts about Postgres.

use std::net::IpAddr;
use std::str::FromStr as _;
use std::time::{Duration, Instant};

use slipway_doctor::Finding;
use slipway_doctor::servers::{self, Postgres};
use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};

use crate::installation::POSTGRES_URL;

const LIMIT: Duration = Duration::from_secs(10);

pub(super) async fn check(url: &str) -> Vec<Finding> {
    let options = match PgConnectOptions::from_str(url) {
        Ok(options) => options.application_name("slipway-doctor").extra_float_digits(None),
        Err(error) => return vec![servers::unreachable("postgres", POSTGRES_URL, &error.to_string())],
    };
    match tokio::time::timeout(LIMIT, facts(&options)).await {
        Ok(Ok(facts)) => servers::postgres(&facts),
        Ok(Err(error)) => vec![servers::unreachable("postgres", POSTGRES_URL, &error.to_string())],
        Err(_) => vec![servers::unreachable("postgres", POSTGRES_URL, "no answer within 10 s")],
    }
}

async fn facts(options: &PgConnectOptions) -> Result<Postgres, sqlx::Error> {
    let mut connection = PgConnection::connect_with(options).await?;
    let (version, max_connections, connections, encrypted, may_create, read_only): (
        String,
        i64,
        i64,
        bool,
        bool,
        bool,
    ) = sqlx::query_as(
        "SELECT current_setting('server_version'), current_setting('max_connections')::bigint,
                (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
                coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false),
                has_database_privilege(current_database(), 'CREATE'), pg_is_in_recovery()",
    )
    .fetch_one(&mut connection)
    .await?;
    let schemas: Vec<String> =
        sqlx::query_scalar("SELECT nspname::text FROM pg_namespace WHERE nspname = ANY($1) ORDER BY 1")
            .bind(slipway_backup::schema_names())
            .fetch_all(&mut connection)
            .await?;
    let newer_schemas = slipway_backup::newer_schemas(&mut connection, &schemas).await;
    let clock = clock(&mut connection).await?;
    Ok(Postgres {
        version,
        max_connections: max_connections.unsigned_abs(),
        connections: connections.unsigned_abs(),
        encrypted,
        local: is_local(options.get_host()),
        clock,
        schemas,
        newer_schemas,
        may_create,
        read_only,
    })
}

/// Its clock minus ours, and the time that the question took.
async fn clock(connection: &mut PgConnection) -> Result<(i64, u64), sqlx::Error> {
    let asked = Instant::now();
    let theirs: i64 = sqlx::query_scalar("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
        .fetch_one(connection)
        .await?;
    let took = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok((theirs - slipway_runtime::clock::now_unix_ms_column(), took))
}

fn is_local(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || host.starts_with('/') || address.is_ok_and(|address| address.is_loopback())
}
