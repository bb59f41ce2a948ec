//! One leads at a time, the next one follows at once, and nothing of it holds back vacuum.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use slipway_lease::Term;
use tokio::sync::Notify;

use crate::world::{COMPETING, END_HOLDER, PATIENCE, World};

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_leads_and_the_next_follows_when_it_ends() {
    let world = World::begin().await;
    let (first, second, third) = (world.replica().await, world.replica().await, world.replica().await);
    let term = first.term().await;
    assert_eq!(term.number(), 1);
    assert!(second.lease.term().is_none() && third.lease.term().is_none());
    assert!(first.metrics.render().contains("\nslipway_leader 1\n"));
    assert!(second.metrics.render().contains("\nslipway_leader 0\n"));
    let holder: String = sqlx::query_scalar("SELECT holder FROM lease").fetch_one(&world.pool).await.unwrap();
    assert_eq!(holder, first.lease.holder());
    first.shutdown.cancel();
    tokio::time::timeout(PATIENCE, term.over()).await.unwrap();
    assert!(!term.is_current() && first.lease.term().is_none());
    assert!(first.metrics.render().contains("\nslipway_leader 0\n"));
    assert_eq!(second.term().await.number(), 2);
    assert!(third.lease.term().is_none());
    drop(second);
    assert_eq!(third.term().await.number(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_connection_breaks_follows_and_may_lead_again() {
    let world = World::begin().await;
    let (first, second) = (world.replica().await, world.replica().await);
    let old = first.term().await;
    assert_eq!(world.count(END_HOLDER).await, 1);
    assert_eq!(second.term().await.number(), 2);
    tokio::time::timeout(PATIENCE, old.over()).await.unwrap();
    world.wait_for(COMPETING, 2).await;
    assert_eq!(world.count(END_HOLDER).await, 1);
    assert_eq!(first.term().await.number(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_the_holder_nor_those_in_line_hold_back_vacuum() {
    let world = World::begin().await;
    let (first, _second, _third) = (world.replica().await, world.replica().await, world.replica().await);
    first.term().await;
    let held_back = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
        WHERE l.relation = 'lease_lock'::REGCLASS AND l.mode = 'ExclusiveLock' \
        AND (a.backend_xid IS NOT NULL OR a.backend_xmin IS NOT NULL)";
    assert_eq!(world.count(COMPETING).await, 3);
    assert_eq!(world.count(held_back).await, 0);
    // Nor after the leader has renewed its lease.
    let renewed = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
        AND query LIKE 'SELECT term FROM lease%'";
    world.wait_for(renewed, 1).await;
    let idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
        AND query LIKE 'SELECT term FROM lease%' AND state = 'idle in transaction' \
        AND backend_xid IS NULL AND backend_xmin IS NULL";
    world.wait_for(idle, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_of_a_leader_starts_with_its_term_and_ends_with_it() {
    let world = World::begin().await;
    let (first, second) = (world.replica().await, world.replica().await);
    first.term().await;
    let working = Arc::new(AtomicUsize::new(0));
    let begun = Arc::new(AtomicUsize::new(0));
    for replica in [&first, &second] {
        let (lease, shutdown) = (replica.lease.clone(), replica.shutdown.clone());
        let (working, begun) = (Arc::clone(&working), Arc::clone(&begun));
        tokio::spawn(async move {
            let work = |_| {
                let (working, begun) = (Arc::clone(&working), Arc::clone(&begun));
                async move {
                    struct Ends(Arc<AtomicUsize>);
                    impl Drop for Ends {
                        fn drop(&mut self) {
                            self.0.fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                    assert_eq!(working.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
                    let _ends = Ends(working);
                    // The first one ends early, and is started again.
                    if begun.fetch_add(1, Ordering::SeqCst) > 0 {
                        std::future::pending::<()>().await;
                    }
                }
            };
            lease.lead(shutdown, work).await;
        });
    }
    let wait = async |wanted: usize| {
        let started = std::time::Instant::now();
        while begun.load(Ordering::SeqCst) < wanted || working.load(Ordering::SeqCst) != 1 {
            assert!(started.elapsed() < PATIENCE, "the work was begun less than {wanted} times");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    wait(2).await;
    first.shutdown.cancel();
    wait(3).await;
}

/// Work that ends with its replica may write once more: the lease is handed over after that.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_ends_finishes_its_work_before_another_one_leads() {
    let world = World::begin().await;
    let (mut first, second) = (world.replica().await, world.replica().await);
    let led = first.term().await.number();
    let (lease, shutdown, pool) = (first.lease.clone(), first.shutdown.clone(), world.pool.clone());
    let begun = Arc::new(Notify::new());
    let begins = Arc::clone(&begun);
    let leading = tokio::spawn(async move {
        let ended = shutdown.clone();
        let work = move |term: Term| {
            let (pool, ended, begins) = (pool.clone(), ended.clone(), Arc::clone(&begins));
            async move {
                begins.notify_one();
                ended.cancelled().await;
                // The next leader would have begun its term by now.
                tokio::time::sleep(std::time::Duration::from_millis(300)).await;
                let mut last = slipway_lease::begin(&pool).await.unwrap();
                let wrote = sqlx::query("INSERT INTO writes (pid, term) VALUES (1, $1)").bind(term.number());
                wrote.execute(&mut *last).await.unwrap();
                last.commit().await.unwrap();
            }
        };
        lease.lead(shutdown, work).await;
    });
    begun.notified().await;
    first.shutdown.cancel();
    leading.await.unwrap();
    (&mut first.competing).await.unwrap();
    assert_eq!(world.count(&format!("SELECT count(*) FROM writes WHERE term = {led}")).await, 1);
    assert!(second.term().await.number() > led);
}
