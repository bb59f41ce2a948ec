//! The audit trail with a real Postgres.
#![expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on can only fail")]

use slipway_audit::{Actor, AuditRow, Entry, Filter, append, page};
use slipway_domain::audit::Walk;
use sqlx::PgPool;
use uuid::Uuid;

const ALICE: &str = "alice";

async fn database() -> PgPool {
    let pool = PgPool::connect(&slipway_testkit::postgres().await.url).await.unwrap();
    slipway_audit::migrator().run(&pool).await.unwrap();
    pool
}

/// An event of run `id`, at `at_ms`.
fn entry(id: &str, at_ms: i64) -> Entry {
    Entry {
        event_id: Uuid::from_u128(u128::from(at_ms.unsigned_abs())),
        at_ms,
        actor: Actor { principal: ALICE.into(), credential: "token:1".into(), origin: "192.0.2.7".into() },
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        subject: "slipway.registry.run.created".into(),
        id: id.into(),
        details: format!("{{\"run\": \"{id}\"}}"),
    }
}

async fn commit(pool: &PgPool, entries: impl IntoIterator<Item = Entry>) {
    let mut transaction = pool.begin().await.unwrap();
    append(&mut transaction, entries).await.unwrap();
    transaction.commit().await.unwrap();
}

async fn read(pool: &PgPool, filter: &Filter) -> Vec<AuditRow> {
    page(pool, filter, None, 1_000).await.unwrap().rows
}

fn ids(rows: &[AuditRow]) -> Vec<&str> {
    rows.iter().map(|row| row.id.as_str()).collect()
}

/// Walks the chain from its beginning to its head, as an auditor does; the error where it does not hold.
async fn walk(pool: &PgPool) -> Result<i64, String> {
    let filter = Filter { ascending: true, ..Filter::default() };
    let page = page(pool, &filter, None, 1_000).await.unwrap();
    let mut walk = Walk::default();
    for row in &page.rows {
        walk.next(row.seq, &row.record().canonical(), &row.hash).map_err(|broken| broken.to_string())?;
    }
    walk.end(page.head_seq, &page.head_hash).map_err(|broken| broken.to_string())?;
    Ok(walk.seq())
}

/// What an administrator of the database could do, who can disable the trigger.
async fn tamper(pool: &PgPool, statement: &'static str) {
    let mut transaction = pool.begin().await.unwrap();
    for statement in
        ["ALTER TABLE audit DISABLE TRIGGER USER", statement, "ALTER TABLE audit ENABLE TRIGGER USER"]
    {
        sqlx::query(statement).execute(&mut *transaction).await.unwrap();
    }
    transaction.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_keep_what_was_given_and_form_a_chain() {
    let pool = database().await;
    assert_eq!(walk(&pool).await, Ok(0), "an empty trail holds");
    commit(&pool, []).await;
    commit(&pool, [entry("a", 1), entry("b", 2)]).await;
    commit(&pool, [entry("c", 3)]).await;
    assert_eq!(walk(&pool).await, Ok(3));
    let rows = read(&pool, &Filter::default()).await;
    assert_eq!(ids(&rows), ["c", "b", "a"], "newest first");
    let row = &rows[2];
    assert_eq!((row.seq, row.at_ms), (1, 1));
    assert_eq!(row.event_id, Uuid::from_u128(1).to_string());
    assert_eq!([&row.principal, &row.credential, &row.origin], ["alice", "token:1", "192.0.2.7"]);
    assert_eq!([&row.entity, &row.what, &row.id], ["run", "created", "a"]);
    assert_eq!([&row.trace_id, &row.details], ["0af7651916cd43dd8448eb211c80319c", "{\"run\": \"a\"}"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_rolled_back_is_not_in_the_chain() {
    let pool = database().await;
    commit(&pool, [entry("a", 1)]).await;
    let mut transaction = pool.begin().await.unwrap();
    append(&mut transaction, [entry("b", 2)]).await.unwrap();
    transaction.rollback().await.unwrap();
    commit(&pool, [entry("c", 3)]).await;
    assert_eq!(walk(&pool).await, Ok(2));
    assert_eq!(ids(&read(&pool, &Filter::default()).await), ["c", "a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_append_at_the_same_time_make_one_chain() {
    let pool = database().await;
    let commits = (0..8_i64).map(|task| {
        let pool = pool.clone();
        tokio::spawn(async move {
            for round in 0..5 {
                commit(&pool, [entry("x", task * 100 + round * 2), entry("y", task * 100 + round * 2 + 1)])
                    .await;
            }
        })
    });
    for committed in commits.collect::<Vec<_>>() {
        committed.await.unwrap();
    }
    assert_eq!(walk(&pool).await, Ok(80));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_tampering_breaks_the_chain() {
    for (statement, broken) in [
        ("UPDATE audit SET principal = 'mallory' WHERE seq = 2", "row 2: its content"),
        ("DELETE FROM audit WHERE seq = 2", "row 2: it is missing"),
        ("DELETE FROM audit WHERE seq = 3", "row 3: it is missing"),
        ("UPDATE audit SET hash = decode(repeat('00', 32), 'hex') WHERE seq = 1", "row 1: its content"),
        ("UPDATE audit_head SET seq = 2", "row 3: the head"),
    ] {
        let pool = database().await;
        commit(&pool, [entry("a", 1), entry("b", 2), entry("c", 3)]).await;
        tamper(&pool, statement).await;
        let found = walk(&pool).await.unwrap_err();
        assert!(found.starts_with(broken), "{statement}: {found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_cannot_be_changed_without_disabling_the_trigger() {
    let pool = database().await;
    commit(&pool, [entry("a", 1)]).await;
    for statement in ["UPDATE audit SET id = 'b'", "DELETE FROM audit", "TRUNCATE audit"] {
        let refused = sqlx::query(statement).execute(&pool).await.unwrap_err().to_string();
        assert!(refused.contains("the audit trail is append-only"), "{statement}: {refused}");
    }
    assert_eq!(walk(&pool).await, Ok(1));
}

/// Nothing is appended behind a head that cannot be continued.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_head_is_an_error_and_leaves_the_trail_as_it_is() {
    let pool = database().await;
    commit(&pool, [entry("a", 1)]).await;
    sqlx::query("UPDATE audit_head SET hash = '\\x00'").execute(&pool).await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    let error = append(&mut transaction, [entry("b", 2)]).await.unwrap_err();
    assert!(error.to_string().contains("head is damaged"), "{error}");
    drop(transaction);
    assert_eq!(ids(&read(&pool, &Filter::default()).await), ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_select_rows_and_pages_follow_each_other_in_both_orders() {
    let pool = database().await;
    let other = Entry {
        actor: Actor::system(),
        subject: "slipway.registry.alias.set".into(),
        ..entry("m@champion", 4)
    };
    commit(&pool, [entry("a", 1), entry("b", 2), entry("a", 3), other]).await;
    let some = |text: &str| Some(text.to_owned());
    for (filter, expected) in [
        (Filter { id: some("a"), ..Filter::default() }, vec!["a", "a"]),
        (Filter { entity: some("alias"), ..Filter::default() }, vec!["m@champion"]),
        (Filter { principal: some("system"), ..Filter::default() }, vec!["m@champion"]),
        (Filter { principal: some(ALICE), id: some("b"), ..Filter::default() }, vec!["b"]),
        (Filter { since_ms: Some(2), until_ms: Some(4), ..Filter::default() }, vec!["a", "b"]),
        (Filter { id: some("nothing"), ..Filter::default() }, vec![]),
    ] {
        assert_eq!(ids(&read(&pool, &filter).await), expected, "{filter:?}");
    }
    for (ascending, expected) in [(true, [1, 2, 3, 4]), (false, [4, 3, 2, 1])] {
        let filter = Filter { ascending, ..Filter::default() };
        let first = page(&pool, &filter, None, 2).await.unwrap().rows;
        let second = page(&pool, &filter, Some(first[1].seq), 2).await.unwrap().rows;
        let seqs: Vec<i64> = first.iter().chain(&second).map(|row| row.seq).collect();
        assert_eq!(seqs, expected);
    }
}

/// A name that is longer than an index entry may be does not stop the relay.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_id_is_stored_and_found() {
    let pool = database().await;
    let id = "ä".repeat(20_000);
    commit(&pool, [entry(&id, 1), entry(&id[..600], 2)]).await;
    let filter = Filter { id: Some(id.clone()), ..Filter::default() };
    assert_eq!(ids(&read(&pool, &filter).await), [id]);
}

/// The registry's own migrations made the tables before this crate had any.
#[tokio::test(flavor = "multi_thread")]
async fn a_trail_of_the_version_before_goes_on() {
    const BEFORE: [&str; 2] = [
        include_str!("../../../../migrations/registry/0006_audit.sql"),
        include_str!("../../../../migrations/registry/0007_audit_indexes.sql"),
    ];
    let pool = PgPool::connect(&slipway_testkit::postgres().await.url).await.unwrap();
    sqlx::raw_sql("CREATE TABLE outbox (id UUID)").execute(&pool).await.unwrap();
    for statements in BEFORE {
        sqlx::raw_sql(statements).execute(&pool).await.unwrap();
    }
    commit(&pool, [entry("a", 1)]).await;
    for _ in 0..2 {
        slipway_audit::migrator().run(&pool).await.unwrap();
    }
    commit(&pool, [entry("b", 2)]).await;
    assert_eq!(walk(&pool).await, Ok(2));
    let indexes = "SELECT indexdef FROM pg_indexes WHERE tablename LIKE 'audit%' ORDER BY 1";
    let of = async |pool: &PgPool| sqlx::query_scalar::<_, String>(indexes).fetch_all(pool).await.unwrap();
    assert_eq!(of(&pool).await, of(&database().await).await);
}
