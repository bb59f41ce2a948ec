//! The audit trail: every write is in it with its caller, and nobody changes it unseen.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use slipway_domain::audit::{Broken, Walk};
use sqlx::PgPool;

use crate::world::World;

/// The newest rows, once there are `count`.
async fn rows(world: &World, query: &str, count: usize) -> Vec<Value> {
    let started = Instant::now();
    loop {
        let (_, answer) =
            world.admin().send(Method::GET, &format!("/api/v1/audit?limit=1000&{query}"), json!({})).await;
        let rows = answer["audit"].as_array().unwrap().clone();
        if rows.len() >= count {
            return rows;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{} of {count} rows", rows.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Walks the chain as somebody would who does not trust the registry.
async fn verify(world: &World) -> Result<i64, Broken> {
    let (mut walk, mut token) = (Walk::default(), String::new());
    loop {
        let path = format!("/api/v1/audit?order=chain&limit=3&page_token={token}");
        let (_, answer) = world.admin().send(Method::GET, &path, json!({})).await;
        for row in answer["audit"].as_array().unwrap() {
            let hash = hex::decode(row["hash"].as_str().unwrap()).unwrap();
            walk.next(row["seq"].as_i64().unwrap(), row["record"].as_str().unwrap(), &hash)?;
        }
        match answer["next_page_token"].as_str() {
            Some(next) => token = next.to_owned(),
            None => {
                let hash = hex::decode(answer["head"]["hash"].as_str().unwrap()).unwrap();
                walk.end(answer["head"]["seq"].as_i64().unwrap(), &hash)?;
                return Ok(walk.seq());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_write_is_there_with_who_and_from_where() {
    let world = World::guarded(&["--trusted-proxies=127.0.0.0/8"]).await;
    let ann = world.person("ann", &[("*", "deployer")]).await;
    let send = async |path: &str, body: Value| {
        let request =
            world.http.post(format!("{}/api/2.0/mlflow/{path}", world.url)).bearer_auth(ann.token());
        let request = request.header("x-forwarded-for", "6.6.6.6, 203.0.113.9");
        let response = request.json(&body).send().await.unwrap();
        assert!(response.status().is_success(), "{path}");
        response.json::<Value>().await.unwrap()
    };
    let made = send("runs/create", json!({"experiment_id": "0"})).await;
    let run = made["run"]["info"]["run_id"].as_str().unwrap().to_owned();
    send("runs/log-metric", json!({"run_id": run, "key": "a", "value": 1, "timestamp": 1})).await;
    send("registered-models/create", json!({"name": "m"})).await;
    let path = format!("{}/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts/a", world.url);
    world.http.put(path).bearer_auth(ann.token()).body("x").send().await.unwrap();

    let seen = rows(&world, "principal=ann", 4).await;
    let told: Vec<String> = seen
        .iter()
        .map(|row| format!("{}.{}", row["entity"].as_str().unwrap(), row["what"].as_str().unwrap()))
        .collect();
    assert_eq!(told, ["artifact.uploaded", "model.created", "run.logged", "run.created"]);
    for row in &seen {
        assert!(row["credential"].as_str().unwrap().starts_with("token:"), "{row}");
    }
    for row in &seen[1..] {
        assert_eq!(row["origin"], "203.0.113.9", "{row}");
    }
    assert_eq!(seen[0]["origin"], "127.0.0.1");
    assert_eq!(seen[3]["id"], run.as_str());
    assert_eq!(seen[2]["details"]["details"]["metrics"], json!(["a"]));

    // What the administrator did is there too, the token's secret is not.
    let admin = rows(&world, "principal=admin", 2).await;
    assert_eq!((&admin[0]["entity"], &admin[1]["entity"]), (&json!("token"), &json!("grant")));
    let secret = ann.token().rsplit('_').next().unwrap();
    assert!(!admin.iter().any(|row| row.to_string().contains(secret)));

    assert_eq!(rows(&world, &format!("entity=run&id={run}"), 2).await.len(), 2);
    assert_eq!(rows(&world, "since=99999999999999", 0).await.len(), 0);
    assert_eq!(rows(&world, "until=1", 0).await.len(), 0);
    let (status, answer) = world.admin().send(Method::GET, "/api/v1/audit?since=2&until=1", json!({})).await;
    assert_eq!((status.as_u16(), &answer["field"]), (400, &json!("until")));
    assert_eq!(verify(&world).await, Ok(6));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chain_tells_of_every_change_behind_its_back() {
    let world = World::guarded(&[]).await;
    for index in 0..7 {
        let body = json!({"name": format!("m{index}")});
        world.admin().send(Method::POST, "/api/2.0/mlflow/registered-models/create", body).await;
    }
    rows(&world, "", 7).await;
    assert_eq!(verify(&world).await, Ok(7));

    let pool = PgPool::connect(&world.database).await.unwrap();
    for statement in [
        "UPDATE registry.audit SET id = 'x' WHERE seq = 4",
        "DELETE FROM registry.audit",
        "TRUNCATE registry.audit",
    ] {
        let refused = sqlx::query(statement).execute(&pool).await.unwrap_err().to_string();
        assert!(refused.contains("append-only"), "{statement}: {refused}");
    }
    assert_eq!(verify(&world).await, Ok(7));

    let behind = async |statement: &'static str| {
        let mut db = pool.begin().await.unwrap();
        sqlx::query("SET LOCAL session_replication_role = replica").execute(&mut *db).await.unwrap();
        sqlx::query(statement).execute(&mut *db).await.unwrap();
        db.commit().await.unwrap();
    };
    behind("UPDATE registry.audit SET principal = 'somebody else' WHERE seq = 4").await;
    assert_eq!(verify(&world).await.unwrap_err().seq, 4);
    behind("UPDATE registry.audit SET principal = 'admin' WHERE seq = 4").await;
    assert_eq!(verify(&world).await, Ok(7));
    behind("DELETE FROM registry.audit WHERE seq = 7").await;
    assert_eq!(verify(&world).await.unwrap_err().seq, 7);
    behind("DELETE FROM registry.audit WHERE seq = 2").await;
    assert_eq!(verify(&world).await.unwrap_err().seq, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_access_off_writes_are_those_of_anonymous() {
    let world = World::begin().await;
    world.post("registered-models/create", json!({"name": "m"})).await;
    let row = rows(&world, "", 1).await.pop().unwrap();
    assert_eq!((&row["principal"], &row["origin"]), (&json!("anonymous"), &json!("127.0.0.1")));
    assert_eq!(world.get("/api/v1/me").await["grants"], json!([{"scope": "*", "role": "admin"}]));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_about_the_longest_names_are_found_and_stop_nothing() {
    let world = World::guarded(&[]).await;
    let run = world.admin().send(Method::POST, "/api/2.0/mlflow/runs/create", json!({})).await.1;
    let run = run["run"]["info"]["run_id"].as_str().unwrap().to_owned();
    let directory = format!("0/{run}/artifacts");
    // As long as a path may be, and nothing in it that a database could shorten.
    let mut name = String::new();
    while directory.len() + 1 + name.len() + 32 <= 900 {
        name += &uuid::Uuid::new_v4().simple().to_string();
    }
    for last in ["a", "b"] {
        let path = format!("{}/api/2.0/mlflow-artifacts/artifacts/{directory}/{name}{last}", world.url);
        let sent = world.http.put(path).bearer_auth(world.admin().token()).body("x").send().await.unwrap();
        assert!(sent.status().is_success(), "{}", sent.text().await.unwrap());
    }
    rows(&world, "", 3).await;
    let found = rows(&world, &format!("entity=artifact&id={directory}/{name}b"), 1).await;
    assert_eq!(found.len(), 1, "not the one with the same beginning");
    assert_eq!(verify(&world).await, Ok(3));
}
