//! What the relay publishes becomes the audit trail: each event once, chained, in the order of the stream.

use std::sync::Arc;

use slipway_audit::{Actor, AuditRow, Filter};
use slipway_domain::audit::link;
use slipway_outbox::{Outbox, Prepared};

use crate::stream::{alias, versions};
use crate::world::{END_RELAYS, World};

const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";

async fn commit(world: &World, versions: std::ops::RangeInclusive<u32>, actor: &Arc<Actor>) {
    let traceparent = format!("00-{TRACE_ID}-b7ad6b7169203331-01");
    let events: Vec<Prepared> = versions
        .map(|version| {
            Prepared::new(&alias(version), Some(traceparent.clone())).unwrap().by(Arc::clone(actor))
        })
        .collect();
    let mut transaction = world.pool.begin().await.unwrap();
    world.outbox.enqueue_all(&mut transaction, &events).await.unwrap();
    transaction.commit().await.unwrap();
    world.outbox.wake();
}

/// The trail, whose hashes follow from its rows, as an auditor computes them.
async fn verified(world: &World) -> Vec<AuditRow> {
    let filter = Filter { ascending: true, ..Filter::default() };
    let page = slipway_audit::page(&world.pool, &filter, None, 1_000).await.unwrap();
    let mut previous = [0_u8; 32];
    for (row, seq) in page.rows.iter().zip(1..) {
        assert_eq!(row.seq, seq, "no gap");
        previous = link(&previous, &row.record().canonical());
        assert_eq!(row.hash, previous, "row {seq}");
    }
    let rows = i64::try_from(page.rows.len()).unwrap();
    assert_eq!((page.head_seq, page.head_hash), (rows, previous.to_vec()));
    page.rows
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_is_in_the_trail_once_with_its_actor_and_in_the_order_of_the_stream() {
    let world = World::with(Outbox::audited()).await;
    world.start_relay();
    let alice = Arc::new(Actor {
        principal: "alice".into(),
        credential: "token:0123456789abcdef".into(),
        origin: "192.0.2.7".into(),
    });
    commit(&world, 1..=300, &alice).await;
    commit(&world, 301..=303, &Arc::new(Actor::system())).await;
    let events = world.published(303).await;
    assert_eq!(versions(&events), (1..=303).collect::<Vec<_>>());
    let rows = verified(&world).await;
    let ids = |ids: Vec<&String>| ids.into_iter().cloned().collect::<Vec<String>>();
    assert_eq!(
        ids(rows.iter().map(|row| &row.event_id).collect()),
        ids(events.iter().map(|event| &event.id).collect())
    );
    let first = &rows[0];
    assert_eq!(
        [&first.principal, &first.credential, &first.origin, &first.trace_id],
        ["alice", "token:0123456789abcdef", "192.0.2.7", TRACE_ID]
    );
    assert_eq!([&first.entity, &first.what, &first.id], ["alias", "set", "m@champion"]);
    assert!(first.details.contains("champion"), "{}", first.details);
    assert_eq!(rows[302].principal, "system");
}

/// The trail's rows and the outbox' end in one transaction: a relay that publishes twice appends once.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_ends_before_its_commit_leaves_no_row_twice_in_the_trail() {
    let world = World::with(Outbox::audited()).await;
    commit(&world, 1..=3, &Arc::new(Actor::system())).await;
    let lock = world.start_blocked_relay(3).await;
    assert_eq!(verified(&world).await.len(), 0, "what is not committed is not in the trail");
    assert_eq!(world.count(END_RELAYS).await, 1);
    lock.rollback().await.unwrap();
    commit(&world, 4..=4, &Arc::new(Actor::system())).await;
    assert_eq!(versions(&world.published(4).await), [1, 2, 3, 4]);
    assert_eq!(verified(&world).await.len(), 4);
}

/// While NATS is unreachable nothing is published, and nothing is claimed to have been.
#[tokio::test(flavor = "multi_thread")]
async fn the_trail_has_no_event_that_the_stream_has_not() {
    let world = World::with(Outbox::audited()).await;
    world.start_relay();
    commit(&world, 1..=2, &Arc::new(Actor::system())).await;
    world.published(2).await;
    world.nats.kill().await;
    commit(&world, 3..=9, &Arc::new(Actor::system())).await;
    assert_eq!(verified(&world).await.len(), 2);
    world.nats.start_again().await;
    assert_eq!(versions(&world.published(9).await), (1..=9).collect::<Vec<_>>());
    assert_eq!(verified(&world).await.len(), 9);
}

/// An event without an actor, as services without access control have them.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_without_an_actor_is_chained_like_the_others() {
    let world = World::with(Outbox::audited()).await;
    world.start_relay();
    world.set_aliases(1..=2).await;
    world.published(2).await;
    let rows = verified(&world).await;
    assert_eq!(rows.len(), 2);
    assert_eq!([&rows[0].principal, &rows[0].credential, &rows[0].origin], ["", "", ""]);
}
