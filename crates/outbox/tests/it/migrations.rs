//! The tables of outbox and inbox, made by this crate or by the migrations of services before it.

use slipway_outbox::{Outbox, inbox};
use sqlx::PgPool;

use crate::stream::{alias, versions};
use crate::world::World;

/// As `migrations/launcher/0001_jobs.sql`, those of the drift monitor and of the rollout controller made
/// them.
const WITHOUT_AUDIT: &str = "CREATE TABLE outbox (seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
    id UUID NOT NULL UNIQUE, \
    subject TEXT NOT NULL, event_type TEXT NOT NULL, entity TEXT NOT NULL, data JSONB NOT NULL, \
    traceparent TEXT, \
    occurred_at TIMESTAMPTZ NOT NULL DEFAULT now(), published_at TIMESTAMPTZ); \
    CREATE INDEX outbox_unpublished ON outbox (seq) WHERE published_at IS NULL; \
    CREATE TABLE inbox (consumer TEXT NOT NULL, event_id TEXT NOT NULL, \
    handled_at TIMESTAMPTZ NOT NULL DEFAULT now(), \
    PRIMARY KEY (consumer, event_id));";
/// What `migrations/registry` up to 0006 left of them.
const WITH_AUDIT: &str = "DROP INDEX outbox_unpublished; ALTER TABLE outbox DROP CONSTRAINT outbox_id_key; \
    ALTER TABLE outbox ADD COLUMN principal TEXT NOT NULL DEFAULT 'system', \
    ADD COLUMN credential TEXT NOT NULL DEFAULT '', ADD COLUMN origin TEXT NOT NULL DEFAULT '';";

async fn database(before: &[&'static str]) -> PgPool {
    let pool = PgPool::connect(&slipway_testkit::postgres().await.url).await.unwrap();
    for statements in before {
        sqlx::raw_sql(*statements).execute(&pool).await.unwrap();
    }
    pool
}

/// Columns with type, default and nullability, and indexes with their definition.
async fn shape(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default) AS line \
         FROM information_schema.columns WHERE table_schema = current_schema() \
         AND table_name IN ('outbox', 'inbox') \
         UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = current_schema() \
         AND tablename IN ('outbox', 'inbox') ORDER BY line",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_schema_has_the_same_tables_whatever_made_them() {
    let mut shapes = Vec::new();
    for before in [&[] as &[&str], &[WITHOUT_AUDIT], &[WITHOUT_AUDIT, WITH_AUDIT]] {
        let pool = database(before).await;
        for _ in 0..2 {
            slipway_outbox::migrator().run(&pool).await.unwrap();
        }
        shapes.push(shape(&pool).await);
    }
    assert!(shapes[0].iter().any(|line| line.starts_with("outbox principal")), "{:#?}", shapes[0]);
    assert_eq!(shapes[0], shapes[1]);
    assert_eq!(shapes[0], shapes[2]);
}

/// Events and inbox entries of the version before survive, and are neither published twice nor handled twice.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_the_version_before_are_kept() {
    let world = World::begin().await;
    let pool = database(&[
        WITHOUT_AUDIT,
        "INSERT INTO outbox (id, subject, event_type, entity, data) \
         VALUES (gen_random_uuid(), 'slipway.registry.alias.set', 'slipway.registry.alias.set', 'm@a', \
         '{\"model\": \"m\", \"alias\": \"champion\", \"version\": \"1\", \"unchanged\": false}'); \
         INSERT INTO inbox (consumer, event_id) VALUES ('alias', 'e-1');",
    ])
    .await;
    slipway_outbox::migrator().run(&pool).await.unwrap();
    slipway_lease::migrator().run(&pool).await.unwrap();
    let mut db = pool.acquire().await.unwrap();
    assert!(!inbox::first_time(&mut db, "alias", "e-1").await.unwrap());
    let (id, principal): (String, String) =
        sqlx::query_as("SELECT id::TEXT, principal FROM outbox").fetch_one(&mut *db).await.unwrap();
    assert_eq!(principal, "system");
    Outbox::default().enqueue(&mut db, &alias(2)).await.unwrap();
    world.start_relay_of(pool.clone());
    let events = crate::stream::read(&world.bus, 2).await;
    assert_eq!(versions(&events), [1, 2]);
    assert_eq!(events[0].id, id);
}
