//! Grants to people, and to the groups of an OIDC issuer.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Person, mlflow};
use crate::world::World;

#[expect(clippy::too_many_lines, reason = "one story, told from its beginning to its end")]
#[tokio::test(flavor = "multi_thread")]
async fn grants_are_set_listed_and_removed() {
    let world = World::guarded(&[]).await;
    let admin = world.admin();
    let ann = world.person("ann", &[]).await;
    assert_eq!(ann.send(Method::GET, "/api/v1/grants", json!({})).await.0, StatusCode::FORBIDDEN);
    for (subject, scope, role, field) in [
        ("ann", "everywhere", "viewer", "scope"),
        ("ann", "*", "owner", "role"),
        ("group:", "*", "viewer", "subject"),
        ("anonymous", "*", "viewer", "subject"),
        ("ann", "model:a/b", "viewer", "scope"),
        ("ann", "experiment:-1", "viewer", "scope"),
        ("ann", "experiment:99999", "viewer", "scope"),
        ("ann", "experiment:00", "viewer", "scope"),
        ("ann", "experiment:+0", "viewer", "scope"),
        ("ann", " *", "viewer", "scope"),
        ("ann", "model: ", "viewer", "scope"),
        ("group: science", "*", "viewer", "subject"),
    ] {
        let body = json!({"subject": subject, "scope": scope, "role": role});
        let (status, answer) = admin.send(Method::PUT, "/api/v1/grants", body).await;
        assert_eq!((status, &answer["field"]), (StatusCode::BAD_REQUEST, &json!(field)), "{answer}");
    }
    // A name has one spelling, and none that is taken for another.
    let long = "x".repeat(257);
    for name in [
        "",
        " ",
        " admin",
        "admin ",
        "admin",
        "Admin",
        "аdmin",
        "ADMIN",
        "ａｄｍｉｎ",
        "adm\u{131}n",
        "system",
        "Anonymous",
        "an\0n",
        "ann\n",
        "ann\u{200b}",
        "\u{202e}nna",
        "ann\u{a0}b",
        &long,
    ] {
        let grant = json!({"subject": name, "scope": "*", "role": "viewer"});
        let token = json!({"name": "t", "principal": name});
        for (method, path, body, field) in
            [(Method::PUT, "grants", grant, "subject"), (Method::POST, "tokens", token, "principal")]
        {
            let (status, answer) = admin.send(method, &format!("/api/v1/{path}"), body).await;
            assert_eq!(
                (status, &answer["field"]),
                (StatusCode::BAD_REQUEST, &json!(field)),
                "{name:?}: {answer}"
            );
        }
    }
    // A grant of before that could not be set now can be removed.
    let database = sqlx::PgPool::connect(&world.database).await.unwrap();
    let old = "INSERT INTO registry.grants VALUES (' admin', 'experiment:-1', 'admin', 1, 'x')";
    sqlx::query(old).execute(&database).await.unwrap();
    let path = "/api/v1/grants?subject=%20admin&scope=experiment:-1";
    assert_eq!(admin.send(Method::DELETE, path, json!({})).await.0, StatusCode::OK);
    // And the token of a name that was valid once proves nothing.
    let ben = world.person("ben", &[("*", "admin")]).await;
    sqlx::query("UPDATE registry.api_tokens SET principal = 'admin' WHERE principal = 'ben'")
        .execute(&database)
        .await
        .unwrap();
    let (status, answer) = ben.send(Method::GET, "/api/v1/me", json!({})).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("reserved"), "{answer}");

    world.person("ann", &[("*", "viewer"), ("experiment:0", "editor")]).await;
    // The change is there at once, not when a cache ends.
    assert_eq!(ann.get("/api/v1/me").await["grants"].as_array().unwrap().len(), 2);
    let page = admin.get("/api/v1/grants?subject=ann&limit=1").await;
    assert_eq!(page["grants"][0]["scope"], "*");
    let path = format!(
        "/api/v1/grants?subject=ann&limit=1&page_token={}",
        page["next_page_token"].as_str().unwrap()
    );
    assert_eq!(admin.get(&path).await["grants"][0]["role"], "editor");
    let path = "/api/v1/grants?subject=ann&scope=*";
    assert_eq!(admin.send(Method::DELETE, path, json!({})).await.0, StatusCode::OK);
    assert_eq!(admin.send(Method::DELETE, path, json!({})).await.0, StatusCode::NOT_FOUND);
    assert_eq!(
        ann.send(Method::GET, &mlflow("experiments/get?experiment_id=1"), json!({})).await.0,
        StatusCode::FORBIDDEN
    );
    ann.get(&mlflow("experiments/get?experiment_id=0")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_of_an_oidc_issuer_have_what_their_groups_were_granted() {
    let issuer = slipway_testkit::issuer().await;
    let world = World::guarded(&[&format!("--oidc-issuer={}", issuer.url), "--oidc-audience=registry"]).await;
    let experiment = world.admin().experiment("e").await;
    let grant =
        json!({"subject": "group:science", "scope": format!("experiment:{experiment}"), "role": "editor"});
    assert_eq!(world.admin().send(Method::PUT, "/api/v1/grants", grant).await.0, StatusCode::OK);
    let person = |claims: &Value| Person { world: &world, token: issuer.token("ES256", claims) };

    let ann = person(&issuer.claims("ann", "registry", &["science"]));
    ann.run(&experiment).await;
    let me = ann.get("/api/v1/me").await;
    assert_eq!(
        (&me["principal"], &me["credential"], &me["groups"]),
        (&json!("ann"), &json!("oidc"), &json!(["science"]))
    );
    let ben = person(&issuer.claims("ben", "registry", &["sales"]));
    ben.denied(Method::POST, "runs/create", json!({"experiment_id": experiment}), ["editor", "experiment "])
        .await;
    for claims in [
        issuer.claims("ann", "another", &["science"]),
        // Nobody calls itself by a name that means something else here.
        issuer.claims("group:science", "registry", &[]),
        issuer.claims("system", "registry", &[]),
        issuer.claims("admin", "registry", &[]),
        issuer.claims("Admin", "registry", &[]),
        issuer.claims("аdmin", "registry", &[]),
        issuer.claims(" admin", "registry", &[]),
        issuer.claims("admin\u{200b}", "registry", &[]),
        issuer.claims("anonymous", "registry", &[]),
        issuer.claims("job:7", "registry", &[]),
        issuer.claims("slipway:launcher", "registry", &[]),
    ] {
        assert_eq!(
            person(&claims).send(Method::GET, "/api/v1/me", json!({})).await.0,
            StatusCode::UNAUTHORIZED,
            "{claims}"
        );
    }
    let crit = issuer.claims("ann", "registry", &["science"]);
    let token = issuer.token_with("ES256", &json!({"crit": ["b64"], "b64": false}), &crit);
    let (status, answer) = Person { world: &world, token }.send(Method::GET, "/api/v1/me", json!({})).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{answer}");
}
