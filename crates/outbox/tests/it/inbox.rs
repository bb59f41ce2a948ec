//! The second delivery of an event is harmless.

use slipway_outbox::inbox::first_time;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_meets_an_event_once_and_each_consumer_for_itself() {
    let world = World::begin().await;
    for (consumer, event, expected) in [
        ("alias", "e-1", true),
        ("alias", "e-1", false),
        ("alias", "e-2", true),
        ("drift", "e-1", true),
        ("drift", "e-1", false),
        ("alias", "e-2", false),
    ] {
        let mut transaction = world.pool.begin().await.unwrap();
        let first = first_time(&mut transaction, consumer, event).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(first, expected, "{consumer} {event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_transaction_rolled_back_comes_for_the_first_time_again() {
    let world = World::begin().await;
    for _ in 0..2 {
        let mut transaction = world.pool.begin().await.unwrap();
        assert!(first_time(&mut transaction, "alias", "e-1").await.unwrap());
        transaction.rollback().await.unwrap();
    }
    let mut transaction = world.pool.begin().await.unwrap();
    assert!(first_time(&mut transaction, "alias", "e-1").await.unwrap());
    transaction.commit().await.unwrap();
}

/// Two replicas get the same event: the second waits for the first, and acts only where the first did not.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_replicas_with_one_event_only_one_acts() {
    let world = World::begin().await;
    for (commits, event) in [(true, "committed"), (false, "rolled-back")] {
        let mut one = world.pool.begin().await.unwrap();
        assert!(first_time(&mut one, "alias", event).await.unwrap());
        let pool = world.pool.clone();
        let other = tokio::spawn(async move {
            let mut other = pool.begin().await.unwrap();
            let first = first_time(&mut other, "alias", event).await.unwrap();
            other.commit().await.unwrap();
            first
        });
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                       AND wait_event_type = 'Lock' AND query LIKE 'INSERT INTO inbox%'";
        world.wait_for_rows(waiting, 1).await;
        if commits {
            one.commit().await.unwrap();
        } else {
            one.rollback().await.unwrap();
        }
        assert_eq!(other.await.unwrap(), !commits, "{event}");
    }
    assert_eq!(world.count("SELECT count(*) FROM inbox").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_no_delivery_can_match_any_more_are_removed() {
    let world = World::begin().await;
    sqlx::query(
        "INSERT INTO inbox SELECT 'alias', 'old-' || days, now() - make_interval(days => days) \
         FROM generate_series(0, 60, 10) AS days",
    )
    .execute(&world.pool)
    .await
    .unwrap();
    let mut transaction = world.pool.begin().await.unwrap();
    assert!(first_time(&mut transaction, "alias", "new").await.unwrap());
    transaction.commit().await.unwrap();
    let kept: Vec<(String,)> =
        sqlx::query_as("SELECT event_id FROM inbox ORDER BY 1").fetch_all(&world.pool).await.unwrap();
    // The events stream keeps messages for less than 30 days.
    let kept: Vec<&str> = kept.iter().map(|(id,)| id.as_str()).collect();
    assert_eq!(kept, ["new", "old-0", "old-10", "old-20"]);
}
