//! What users send, and what they are told.

use reqwest::Method;
use serde_json::{Value, json};

use crate::data::{DEPLOYMENT, MODEL, Rows};
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_monitor_is_said_by_field() {
    let world = World::begin().await;
    let good = json!({"name": "m", "deployment": DEPLOYMENT, "model": MODEL});
    let cases = [
        ("name", json!("a/b"), "name"),
        ("deployment", json!(7), "deployment"),
        ("model", json!(""), "model"),
        ("baseline_version", json!("newest"), "baseline_version"),
        ("window", json!({"rows": 3}), "window.rows"),
        ("window", json!({"rows": "many"}), "window.rows"),
        ("window", json!({"max_s": 0}), "window.max_s"),
        ("thresholds", json!({"psi": -1}), "thresholds.psi"),
        ("thresholds", json!({"p_value": 2}), "thresholds.p_value"),
        ("thresholds", json!({"ks_p_value": 2}), "thresholds.p_value"),
        ("thresholds", json!({"single_feature_shift": -1}), "thresholds.single_feature_shift"),
        ("consecutive_windows", json!(0), "consecutive_windows"),
        ("cool_down_s", json!(-1), "cool_down_s"),
        ("on_drift", json!([{"action": "dance"}]), "on_drift[0].action"),
        ("on_drift", json!([{"action": "submit-job"}]), "on_drift[0].job"),
        (
            "on_drift",
            json!([{"action": "submit-job", "job": {"name": "j", "command": []}}]),
            "on_drift[0].job.command",
        ),
    ];
    for (field, value, named) in cases {
        let mut body = good.clone();
        body[field] = value;
        let (status, answer) = world.send(Method::POST, "monitors", body).await;
        assert_eq!((status.as_u16(), &answer["field"]), (400, &json!(named)), "{answer}");
        assert_eq!(answer["type"], "/errors/invalid-request");
    }
    let (status, answer) = world.send(Method::POST, "monitors", json!({"name": "m"})).await;
    assert_eq!(status, 400);
    assert!(answer["detail"].as_str().unwrap().contains("`deployment`"), "{answer}");
    assert_eq!(world.get("monitors").await["monitors"], json!([]), "nothing was made");
}

#[expect(clippy::too_many_lines, reason = "one story, told from its beginning to its end")]
#[tokio::test(flavor = "multi_thread")]
async fn monitors_are_listed_changed_and_removed() {
    let world = World::with_baseline().await;
    for name in ["a", "b", "m"] {
        world.monitor(json!({ "name": name })).await;
    }
    let (status, answer) =
        world.send(Method::POST, "monitors", json!({"name": "m", "deployment": "d", "model": "x"})).await;
    assert_eq!((status.as_u16(), &answer["code"]), (409, &json!("conflict")), "{answer}");
    let page = world.get("monitors?limit=2").await;
    let names = |page: &Value| -> Vec<Value> {
        page["monitors"].as_array().unwrap().iter().map(|monitor| monitor["name"].clone()).collect()
    };
    assert_eq!(names(&page), ["a", "b"]);
    let next = page["next_page_token"].as_str().unwrap();
    assert_eq!(names(&world.get(&format!("monitors?limit=2&page_token={next}")).await), ["m"]);
    assert_eq!(names(&world.get("monitors?deployment=another").await).len(), 0);

    let mut spec = world.get("monitors/m").await["spec"].take();
    spec["window"] = json!({"rows": 50});
    let (status, answer) = world.send(Method::PUT, "monitors/m", spec.clone()).await;
    assert_eq!((status.as_u16(), &answer["spec"]["window"]["rows"]), (200, &json!(50)), "{answer}");
    world.predict(&Rows::new(1).take(50)).await;
    world.windows(1).await;
    // Only what is named changes; null puts a field back to its default.
    let change = json!({"window": {"max_s": 60}, "thresholds": {"psi": 0.5}, "cool_down_s": null});
    let (status, answer) = world.send(Method::PATCH, "monitors/m", change).await;
    assert_eq!(status, 200, "{answer}");
    let patched = &answer["spec"];
    assert_eq!(
        (&patched["window"], &patched["cool_down_s"]),
        (&json!({"rows": 50, "max_s": 60.0}), &json!(3600.0))
    );
    assert_eq!((&patched["thresholds"]["psi"], &patched["consecutive_windows"]), (&json!(0.5), &json!(2)));
    for (change, field) in [
        (json!({"window": {"rows": 3}}), "window.rows"),
        (json!({"window": {"row": 30}}), "window.row"),
        (json!({"name": "other"}), "name"),
        (json!({"deployment": "other"}), "deployment"),
        (json!([1]), "body"),
    ] {
        let (status, answer) = world.send(Method::PATCH, "monitors/m", change).await;
        assert_eq!((status.as_u16(), &answer["field"]), (400, &json!(field)), "{answer}");
    }
    spec["model"] = json!("another");
    let (status, answer) = world.send(Method::PUT, "monitors/m", spec).await;
    assert_eq!((status.as_u16(), &answer["field"]), (400, &json!("model")), "{answer}");

    assert!(world.metrics().await.contains("slipway_drift_psi{monitor=\"m\""));
    assert_eq!(world.send(Method::DELETE, "monitors/m", Value::Null).await.0, 204);
    for path in ["monitors/m", "monitors/m/windows", "monitors/m/actions", "monitors/m/verdicts"] {
        let (status, answer) = world.send(Method::GET, path, Value::Null).await;
        assert_eq!(status, 404, "{answer}");
        assert!(answer["detail"].as_str().unwrap().contains("monitor `m`"), "{answer}");
    }
    world
        .until("its metrics to go", async || (!world.metrics().await.contains("monitor=\"m\"")).then_some(()))
        .await;
    let what: Vec<String> = world
        .events("slipway.drift-monitor.monitor", 6)
        .await
        .into_iter()
        .map(|event| event.subject)
        .filter(|subject| !subject.ends_with("resumed"))
        .collect();
    let tail = |what: &str| format!("slipway.drift-monitor.monitor.{what}");
    assert_eq!(what[3..], [tail("updated"), tail("updated"), tail("deleted")]);
}
