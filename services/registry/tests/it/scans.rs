//! What the scan of a version's files says, and what depends on it.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::Connection as _;

use crate::world::{MODEL, World};

/// What `mlflow.onnx.log_model` writes next to the model, shortened.
const MLMODEL: &[u8] = b"flavors:\n  onnx:\n    code: null\n    data: model.onnx\n    onnx_version: \
    1.19.1\n    providers:\n    - \
    CPUExecutionProvider\n  python_function:\n    data: model.onnx\n    env:\n      conda: conda.yaml\n      \
    virtualenv: \
    python_env.yaml\n    loader_module: mlflow.onnx\n    python_version: 3.11.7\nmlflow_version: \
    3.17.2\nmodel_uuid: abc\n";
const CONDA: &[u8] = b"channels:\n- conda-forge\ndependencies:\n- python=3.11.7\n- pip<=23.2.1\n- pip:\n  - \
    mlflow==3.17.2\nname: e\n";
const PYTHON_ENV: &[u8] =
    b"python: 3.11.7\nbuild_dependencies:\n- pip==23.2.1\n- wheel\ndependencies:\n- -r requirements.txt\n";
const EXAMPLE: &[u8] = b"{\"columns\": [\"a\"], \"data\": [[NaN], [1.0]]}";

/// Paths and contents.
type Files<'f> = &'f [(&'f str, &'f [u8])];

impl World {
    /// A version of `m` with these files in addition to a model in ONNX, as `GET` answers about it.
    async fn with_files(&self, files: Files<'_>) -> Value {
        let files: Vec<(&str, &[u8])> =
            [("model.onnx", MODEL)].into_iter().chain(files.iter().copied()).collect();
        let id = self.logged_model(&files).await;
        let (status, made) = self.version("m", &id).await;
        assert_eq!(status, StatusCode::OK, "{made}");
        let number = made["model_version"]["version"].as_str().unwrap();
        self.get(&format!("/api/v1/models/m/versions/{number}")).await
    }

    async fn rule_holds(&self, version: &Value, rule: &str) -> bool {
        let policy = json!({"rules": [{"rule": rule}]});
        let made = self.raw(Method::PUT, "/api/v1/models/m/policies/guarded", policy.to_string()).await;
        assert_eq!(made.status(), StatusCode::OK);
        let body = json!({"name": "m", "alias": "guarded", "version": version["version"]});
        self.try_call(Method::POST, "registered-models/alias", body).await.0 == StatusCode::OK
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_mlflow_logs_for_an_onnx_model_is_safe_and_carries_no_code() {
    let world = World::begin().await;
    let version = world
        .with_files(&[
            ("MLmodel", MLMODEL),
            ("conda.yaml", CONDA),
            ("python_env.yaml", PYTHON_ENV),
            ("requirements.txt", b"mlflow==3.17.2\nonnx"),
            ("input_example.json", EXAMPLE),
            ("serving_input_example.json", EXAMPLE),
        ])
        .await;
    assert_eq!((&version["servable"], &version["scan_verdict"]), (&json!(true), &json!("safe")), "{version}");
    assert_eq!((&version["loader_code"], &version["scan"]["scanned"]), (&json!("none"), &json!(7)));
    assert_eq!((&version["scan"]["files"], &version["scan_reason"]), (&json!([]), &Value::Null));
    assert!(version["tags"].get("slipway.unverified").is_none(), "{version}");
    assert!(world.rule_holds(&version, "scanned-safe").await);
    assert!(world.rule_holds(&version, "no-loader-code").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unverified_version_is_served_and_satisfies_no_policy_that_asks_for_a_safe_one() {
    let world = World::begin().await;
    let with_code = |text: &str| String::from_utf8_lossy(MLMODEL).replace("code: null", text).into_bytes();
    let own_loader = String::from_utf8_lossy(MLMODEL).replace("mlflow.onnx\n", "loader\n").into_bytes();
    let environments = [("conda.yaml", CONDA), ("python_env.yaml", PYTHON_ENV)];
    let (code, loader) = (with_code("code: code"), own_loader);
    let cases: [(Files<'_>, &str, &str); 6] = [
        (&[("plot.png", b"\x89PNG\r\n\x1a\n")], "plot.png", "unknown"),
        (&[("weights.zst", b"\x51\x2a\x4d\x18\x00\x00\x00\x00\x28\xb5\x2f\xfd")], "weights.zst", "unknown"),
        (&[("code/loader.py", b"import os\n")], "code/loader.py", "present"),
        (&[("MLmodel", &code)], "MLmodel", "present"),
        (&[("MLmodel", &loader)], "MLmodel", "present"),
        (&[("saved_model.pb", b"\x08\x01\x12\x03abc")], "saved_model.pb", "present"),
    ];
    for (files, named, carries) in cases {
        let files: Vec<(&str, &[u8])> = files.iter().copied().chain(environments).collect();
        let version = world.with_files(&files).await;
        let shown = (&version["servable"], &version["scan_verdict"], &version["loader_code"]);
        assert_eq!(shown, (&json!(true), &json!("unverified"), &json!(carries)), "{named}: {version}");
        let reason = version["scan_reason"].as_str().unwrap();
        assert!(reason.starts_with(&format!("the file '{named}' is not verified: ")), "{reason}");
        assert_eq!(version["tags"]["slipway.unverified"], reason);
        assert!(!world.rule_holds(&version, "scanned-safe").await, "{named}");
        assert!(!world.rule_holds(&version, "no-loader-code").await, "{named}");
        assert!(world.rule_holds(&version, "servable").await, "{named}");
        let number = version["version"].as_str().unwrap();
        let card = world.get(&format!("/api/v1/models/m/versions/{number}/card")).await;
        assert_eq!(
            (&card["scan"]["verdict"], &card["scan"]["code"]),
            (&json!("unverified"), &json!(carries))
        );
        let url = format!("{}/api/v1/models/m/versions/{number}/card?format=markdown", world.url);
        let text = world.http.get(url).send().await.unwrap().text().await.unwrap();
        let code = if carries == "present" { format!("in {named}") } else { "not known, because".to_owned() };
        assert!(text.contains(&format!("| code that a loader runs | {code}")), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_that_another_loader_would_run_are_unsafe() {
    let world = World::begin().await;
    let evil = b"cposix\nsystem\n(S'id'\ntR.".as_slice();
    let version = world.with_files(&[("model.pkl", evil)]).await;
    assert_eq!(
        (&version["servable"], &version["scan_verdict"]),
        (&json!(false), &json!("unsafe")),
        "{version}"
    );
    let tag = world.with_files(&[("conda.yaml", b"a: !!python/object/apply:os.system [id]\n")]).await;
    assert_eq!((&tag["servable"], &tag["scan_verdict"]), (&json!(false), &json!("unsafe")), "{tag}");
    assert_eq!(tag["scan"]["files"][0]["findings"][0]["code"], "yaml-tag");
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_of_an_earlier_release_are_unverified_until_they_were_scanned_again() {
    let world = World::begin().await;
    let safe = world.with_files(&[("notes.txt", b"hello")]).await;
    let code = world.with_files(&[("code/x.py", b"import os\n")]).await;
    let evil = world.with_files(&[("x.yaml", b"a: !!python/object/apply:os.system [id]\n")]).await;
    // What the release before wrote: two verdicts, no rules, and `safe` for all three.
    let mut db = sqlx::PgConnection::connect(&world.database).await.unwrap();
    sqlx::query(
        "UPDATE registry.model_versions SET servable = TRUE, facts = jsonb_set(facts - 'inspection', \
         '{unservable_reason}', 'null') \
         || jsonb_build_object('scan', jsonb_build_object('verdict', 'safe', 'scanned', 1, 'files', \
         '[]'::jsonb))",
    )
    .execute(&mut db)
    .await
    .unwrap();
    let read = async |version: &Value| {
        world.get(&format!("/api/v1/models/m/versions/{}", version["version"].as_str().unwrap())).await
    };
    let before = read(&safe).await;
    assert_eq!((&before["scan_verdict"], &before["loader_code"]), (&json!("unverified"), &json!("unknown")));
    assert!(before["scan_reason"].as_str().unwrap().contains("earlier release"), "{before}");
    assert!(!world.rule_holds(&safe, "scanned-safe").await);

    let _newer = world.replica().await;
    for (version, verdict, servable) in
        [(&safe, "safe", true), (&code, "unverified", true), (&evil, "unsafe", false)]
    {
        loop {
            let now = read(version).await;
            if now["scan"]["rules"] != json!(0) && now["scan"]["rules"] != Value::Null {
                assert_eq!(
                    (&now["scan_verdict"], &now["servable"]),
                    (&json!(verdict), &json!(servable)),
                    "{now}"
                );
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
    assert!(world.rule_holds(&safe, "scanned-safe").await);
    assert_eq!(read(&evil).await["tags"]["slipway.unservable"], read(&evil).await["unservable_reason"]);
}
