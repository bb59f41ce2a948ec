//! Replicas in processes of their own, which hang, go on, and die.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use slipway_lease::{Lease, TIMEOUT_MS};
use slipway_service_kit::metrics::Metrics;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::world::{COMPETING, PATIENCE, World};

const URL: &str = "SLIPWAY_LEASE_TEST_URL";

/// A replica that writes all the time while it leads; gone when dropped.
struct Replica(Child);

impl Replica {
    async fn start(world: &World) -> Self {
        let in_line = world.count(COMPETING).await;
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["processes::a_process_of_the_other_tests", "--exact", "--ignored", "--nocapture"])
            .env(URL, &world.url)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        world.wait_for(COMPETING, in_line + 1).await;
        Self(child)
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Waits until it has written `more` rows from now on.
    async fn writes(&self, world: &World, more: i64) {
        let query = format!("SELECT count(*) FROM writes WHERE pid = {}", self.pid());
        let so_far = world.count(&query).await;
        world.wait_for(&query, so_far + more).await;
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not a test: what [`Replica::start`] runs. It ends with the process that started it.
#[ignore = "started by other tests"]
#[tokio::test(flavor = "multi_thread")]
async fn a_process_of_the_other_tests() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    let pool = PgPool::connect(&std::env::var(URL).unwrap()).await.unwrap();
    let (lease, shutdown) = (Lease::new(pool.clone(), &Metrics::new()), CancellationToken::new());
    let pid = i32::try_from(std::process::id()).unwrap();
    let writing = lease.clone().lead(shutdown.clone(), |term| {
        let pool = pool.clone();
        async move {
            // Not fenced by its time alone: each write asks Postgres. Any of its statements may be the one
            // that finds the connection ended.
            while write(&pool, pid, term.number()).await.is_ok() {}
            sqlx::query("INSERT INTO notes VALUES ($1, 'fenced')").bind(pid).execute(&pool).await.unwrap();
            term.over().await;
        }
    });
    tokio::join!(lease.compete(shutdown), writing);
}

async fn write(pool: &PgPool, pid: i32, term: i64) -> Result<(), sqlx::Error> {
    let mut transaction = slipway_lease::begin(pool).await?;
    let insert = sqlx::query("INSERT INTO writes (pid, term) VALUES ($1, $2)").bind(pid).bind(term);
    insert.execute(&mut *transaction).await?;
    transaction.commit().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_hangs_is_replaced_and_writes_nothing_when_it_goes_on() {
    let world = World::begin().await;
    let hanging = Replica::start(&world).await;
    hanging.writes(&world, 5).await;
    let next = Replica::start(&world).await;
    let stopped = Instant::now();
    hanging.signal(Signal::SIGSTOP);
    next.writes(&world, 1).await;
    // Generous: the machine may be busy. Without the time-out it would be two hours.
    assert!(stopped.elapsed() < Duration::from_millis(TIMEOUT_MS) * 4, "{:?}", stopped.elapsed());
    hanging.signal(Signal::SIGCONT);
    // It stands in line again, behind the one that leads.
    world.wait_for(COMPETING, 2).await;
    next.writes(&world, 20).await;
    let unordered = world.count(
        "SELECT count(*) FROM (SELECT term, max(term) OVER (ORDER BY seq) AS newest FROM writes) w \
         WHERE term < newest",
    );
    assert_eq!(unordered.await, 0, "a write of an earlier term came after one of a later term");
    let by_pid = world.count("SELECT count(DISTINCT (pid, term)) FROM writes");
    assert_eq!(by_pid.await, 2);
    drop(next);
    hanging.writes(&world, 1).await;
    // A busy machine may end a term before anything is written in it.
    assert!(world.count("SELECT max(term) FROM writes").await >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_dies_is_replaced_before_its_lease_would_end() {
    let world = World::begin().await;
    let dying = Replica::start(&world).await;
    dying.writes(&world, 5).await;
    let next = Replica::start(&world).await;
    // The fastest of several: a busy machine must not fail the test, and a lease that is waited for would.
    let mut fastest = PATIENCE;
    let mut pair = (dying, next);
    for _ in 0..3 {
        let (dying, next) = pair;
        let killed = Instant::now();
        dying.signal(Signal::SIGKILL);
        next.writes(&world, 1).await;
        fastest = fastest.min(killed.elapsed());
        pair = (next, Replica::start(&world).await);
    }
    assert!(fastest < Duration::from_millis(TIMEOUT_MS), "{fastest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_hangs_holds_up_the_line_for_a_time_out_at_most() {
    let world = World::begin().await;
    let leading = Replica::start(&world).await;
    leading.writes(&world, 5).await;
    let hanging = Replica::start(&world).await;
    let next = Replica::start(&world).await;
    hanging.signal(Signal::SIGSTOP);
    leading.signal(Signal::SIGKILL);
    let killed = Instant::now();
    next.writes(&world, 1).await;
    assert!(killed.elapsed() < Duration::from_millis(TIMEOUT_MS) * 4, "{:?}", killed.elapsed());
    hanging.signal(Signal::SIGCONT);
    world.wait_for(COMPETING, 2).await;
    next.writes(&world, 5).await;
    let query = format!("SELECT count(*) FROM writes WHERE pid = {}", hanging.pid());
    assert_eq!(world.count(&query).await, 0);
}
