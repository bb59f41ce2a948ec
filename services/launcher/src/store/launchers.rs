//! Launchers that run, and what their nodes have for jobs.

use slipway_domain::training::{BackendKind, Capacity, Node, Owner, Resources, total};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

/// A launcher that was not seen for longer does not run, milliseconds.
const GONE_AFTER_MS: i64 = 10_000;
/// What a node had counts for the refusal of jobs for so long, milliseconds: it may be starting again.
const FORGOTTEN_AFTER_MS: i64 = 3_600_000;
/// Key of the advisory lock under which jobs are given to nodes.
const PLACEMENT_LOCK_KEY: i32 = 0x51_1B_1A_0C;

/// A launcher.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct StoredLauncher {
    id: Uuid,
    backend: String,
    node: String,
    pub(crate) url: String,
    cpus: f64,
    memory_bytes: i64,
    gpus: i32,
    runs: bool,
}

impl StoredLauncher {
    /// It, as the owner of attempts.
    pub(crate) fn owner(&self) -> Owner {
        Owner { backend: self.backend.clone(), node: self.node.clone(), launcher: self.id.to_string() }
    }

    /// Whether it runs jobs there.
    pub(crate) fn is_of(&self, backend: BackendKind) -> bool {
        self.backend == backend.as_str()
    }

    /// Whether it was seen just now.
    pub(crate) const fn runs(&self) -> bool {
        self.runs
    }

    /// What its node has.
    pub(crate) fn capacity(&self) -> Capacity {
        Capacity {
            cpus: self.cpus,
            memory_bytes: u64::try_from(self.memory_bytes).unwrap_or(0),
            gpus: u32::try_from(self.gpus).unwrap_or(0),
        }
    }
}

/// Notes that a launcher runs.
pub(crate) async fn register(
    connection: &mut PgConnection,
    id: Uuid,
    own: &Owner,
    url: &str,
    capacity: &Capacity,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO launchers (id, backend, node, url, cpus, memory_bytes, gpus, seen_at_unix_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
         ON CONFLICT (id, node) DO UPDATE SET backend = EXCLUDED.backend, url = EXCLUDED.url,
           cpus = EXCLUDED.cpus, memory_bytes = EXCLUDED.memory_bytes, gpus = EXCLUDED.gpus,
           seen_at_unix_ms = EXCLUDED.seen_at_unix_ms",
    )
    .bind(id)
    .bind(&own.backend)
    .bind(&own.node)
    .bind(url)
    .bind(capacity.cpus)
    .bind(i64::try_from(capacity.memory_bytes).unwrap_or(i64::MAX))
    .bind(i32::try_from(capacity.gpus).unwrap_or(i32::MAX))
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "DELETE FROM launchers
         WHERE seen_at_unix_ms < (extract(epoch FROM clock_timestamp()) * 1000)::bigint - $1",
    )
    .bind(FORGOTTEN_AFTER_MS)
    .execute(connection)
    .await
    .map(drop)
}

/// Notes that a launcher has stopped.
pub(crate) async fn remove(connection: &mut PgConnection, id: Uuid, node: &str) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM launchers WHERE id = $1 AND node = $2")
        .bind(id)
        .bind(node)
        .execute(connection)
        .await
        .map(drop)
}

/// Launchers that run or ran lately, in a stable order.
pub(crate) async fn list(connection: &mut PgConnection) -> Result<Vec<StoredLauncher>, sqlx::Error> {
    sqlx::query_as(
        "SELECT id, backend, node, url, cpus, memory_bytes, gpus,
           seen_at_unix_ms >= (extract(epoch FROM clock_timestamp()) * 1000)::bigint - $1 AS runs
         FROM launchers ORDER BY node, id",
    )
    .bind(GONE_AFTER_MS)
    .fetch_all(connection)
    .await
}

/// Nodes on which launchers of a backend run, with what their running jobs take. Jobs whose attempts have no
/// node count for the first one.
pub(crate) async fn nodes(
    connection: &mut PgConnection,
    backend: BackendKind,
) -> Result<Vec<Node>, sqlx::Error> {
    let launchers = list(&mut *connection).await?;
    let taken: Vec<Taken> = sqlx::query_as(
        "SELECT attempts.node, jobs.cpus, jobs.memory_bytes, jobs.gpus
         FROM jobs JOIN attempts
           ON attempts.job_id = jobs.id AND attempts.number = (jobs.state->>'attempt')::integer
         WHERE jobs.status IN ('pending', 'running', 'cancelling', 'suspending') AND jobs.backend = $1",
    )
    .bind(backend.as_str())
    .fetch_all(connection)
    .await?;
    let mut nodes: Vec<Node> = Vec::new();
    for launcher in launchers.iter().filter(|launcher| launcher.runs && launcher.is_of(backend)) {
        // Launchers of one node share what it has.
        if nodes.last().is_some_and(|last| last.name == launcher.node) {
            continue;
        }
        let is_first = nodes.is_empty();
        let here = taken.iter().filter(|taken| match &taken.node {
            Some(node) => *node == launcher.node,
            None => is_first,
        });
        let here: Vec<Resources> = here.map(Taken::resources).collect();
        nodes.push(Node {
            name: launcher.node.clone(),
            capacity: launcher.capacity(),
            used: total(here.iter()),
        });
    }
    Ok(nodes)
}

#[derive(FromRow)]
struct Taken {
    node: Option<String>,
    cpus: f64,
    memory_bytes: i64,
    gpus: i32,
}

impl Taken {
    fn resources(&self) -> Resources {
        Resources {
            cpus: self.cpus,
            memory_bytes: u64::try_from(self.memory_bytes).unwrap_or(0),
            gpus: u32::try_from(self.gpus).unwrap_or(0),
        }
    }
}

/// Has this transaction be the only one that gives jobs to nodes, until it ends.
pub(crate) async fn lock_placement(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock($1, hashtext(current_schema()))")
        .bind(PLACEMENT_LOCK_KEY)
        .execute(connection)
        .await
        .map(drop)
}
