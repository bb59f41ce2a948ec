//! Versions: inspected, named by their digest, told about once.

use reqwest::{Method, StatusCode};
use serde_json::json;
use slipway_testkit::onnx::{self, Attribute, Graph};

use crate::world::{MODEL, OTHER_MODEL, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_version_knows_its_digest_its_graph_and_its_run() {
    let world = World::begin().await;
    let (first, same, other) =
        (world.onnx_model(MODEL).await, world.onnx_model(MODEL).await, world.onnx_model(OTHER_MODEL).await);
    for (number, id) in [("1", &first), ("2", &same), ("3", &other)] {
        let (status, answer) = world.version("m", id).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(answer["model_version"]["version"], number);
        assert_eq!(answer["model_version"]["status"], "READY");
    }
    let version = |number: &str| format!("/api/v1/models/m/versions/{number}");
    let one = world.get(&version("1")).await;
    assert_eq!(one["servable"], true, "{one}");
    assert_eq!(one["inputs"][0], json!({"name": "input", "datatype": "FP32", "shape": [-1, 2]}));
    assert_eq!(
        one["digest"],
        world.get(&version("2")).await["digest"],
        "the same bytes have the same digest"
    );
    assert_ne!(one["digest"], world.get(&version("3")).await["digest"]);
    let run = one["run_id"].as_str().unwrap();
    assert_eq!(
        world.get(&format!("/api/2.0/mlflow/runs/get?run_id={run}")).await["run"]["info"]["run_id"],
        run
    );
    let page = world.get("/api/v1/models/m/versions?limit=2").await;
    assert_eq!(page["versions"].as_array().unwrap().len(), 2);
    let token = page["next_page_token"].as_str().unwrap();
    let rest = world.get(&format!("/api/v1/models/m/versions?limit=2&page_token={token}")).await;
    assert_eq!((&rest["versions"][0]["version"], rest.get("next_page_token")), (&json!("1"), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_model_is_refused_and_leaves_nothing() {
    let world = World::begin().await;
    for bytes in [&b"no model"[..], b"", &MODEL[..MODEL.len() - 40]] {
        let id = world.onnx_model(bytes).await;
        let (status, answer) = world.version("m", &id).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
        assert!(answer["message"].as_str().unwrap().contains("model.onnx"), "{answer}");
    }
    let id = world
        .logged_model(&[("MLmodel", b"flavors:\n  onnx:\n    data: other.onnx\n"), ("model.onnx", MODEL)])
        .await;
    let (_, answer) = world.version("m", &id).await;
    assert!(answer["message"].as_str().unwrap().contains("other.onnx"), "{answer}");
    assert_eq!(world.get("/api/v1/models/m/versions").await["versions"], json!([]));
    // Another flavour is welcome; it just cannot be served.
    let id =
        world.logged_model(&[("MLmodel", b"flavors:\n  sklearn: {}\n"), ("model.pkl", b"\x80\x04.")]).await;
    assert_eq!(world.version("m", &id).await.0, StatusCode::OK);
    let version = world.get("/api/v1/models/m/versions/1").await;
    assert_eq!(version["servable"], false);
    assert!(version["unservable_reason"].as_str().unwrap().contains("sklearn"), "{version}");
    // An ensemble needs no model of its own.
    let ensemble = r#"{"inputs": [{"name": "x"}], "outputs": [{"name": "y"}],
        "steps": [{"model": "points", "inputs": {"x": "x"}, "outputs": {"score": "y"}}]}"#;
    let id = world.logged_model(&[("slipway-ensemble.json", ensemble.as_bytes())]).await;
    assert_eq!(world.version("m", &id).await.0, StatusCode::OK);
    assert_eq!(world.get("/api/v1/models/m/versions/2").await["servable"], true);
    // One that could never be served is refused here, not when it is rolled out.
    let long = " ".repeat(300_000);
    for (broken, why) in [
        ("{}".to_owned(), "missing field `inputs`"),
        ("[]".to_owned(), "expected an object"),
        ("no JSON".to_owned(), "line 1 column"),
        (ensemble.replace("\"score\": \"y\"", "\"score\": \"z\""), "no step gives the output 'y'"),
        (ensemble.replace("\"x\": \"x\"", "\"x\": 1"), "`steps[0].inputs.x`: invalid type"),
        (
            ensemble.replace("{\"name\": \"y\"}", "{\"name\": \"y\", \"datatype\": \"FLOAT\"}"),
            "'FLOAT' is not a datatype",
        ),
        (long, "longer than 262144 bytes"),
    ] {
        let id = world.logged_model(&[("slipway-ensemble.json", broken.as_bytes())]).await;
        let (status, answer) = world.version("m", &id).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
        let told = answer["message"].as_str().unwrap();
        assert!(told.contains("slipway-ensemble.json") && told.contains(why), "{told}");
    }
    world
        .refused(
            Method::POST,
            "model-versions/create",
            json!({"name": "m", "source": "/etc"}),
            "INVALID_PARAMETER_VALUE",
            "/etc",
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_would_make_a_runtime_read_beyond_its_memory_is_not_servable() {
    let world = World::begin().await;
    // 64 numbers of a file, from byte 4096 on.
    let outside = |location: &str| {
        let mut graph = Graph::default();
        graph.input("x", onnx::FLOAT, &[Some(64)]);
        graph.constant(&onnx::external("w", onnx::FLOAT, &[64], location, 4096, 256));
        graph.node("Add", &["x", "w"], &["y"], &[]);
        graph.output("y", onnx::FLOAT);
        graph.model(17)
    };
    let description = b"flavors:\n  onnx:\n    data: model.onnx\n";
    for (location, reason) in [
        ("weights.bin", None),
        ("*/_ORT_MEM_ADDR_/*", Some("an address in memory")),
        ("./*/_ort_mem_addr_/*", Some("an address in memory")),
        ("../weights.bin", Some("'..' is not allowed")),
        ("/etc/passwd", Some("a path relative to the model's folder")),
        ("short.bin", Some("the file has 4351 bytes")),
    ] {
        let model = outside(location);
        let mut files: Vec<(&str, &[u8])> = vec![("MLmodel", description), ("model.onnx", &model)];
        // A file that the model does not name would be one that nobody knows.
        match location {
            "weights.bin" => files.push((location, &[0; 4352])),
            "short.bin" => files.push((location, &[0; 4351])),
            _ => {}
        }
        let id = world.logged_model(&files).await;
        let (status, answer) = world.version("m", &id).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let number = answer["model_version"]["version"].as_str().unwrap();
        let version = world.get(&format!("/api/v1/models/m/versions/{number}")).await;
        assert_eq!(version["servable"], reason.is_none(), "{version}");
        let told = version["unservable_reason"].as_str().unwrap_or_default();
        assert!(told.contains(reason.unwrap_or_default()), "{told}");
    }
    let missing = world.logged_model(&[("MLmodel", description), ("model.onnx", &outside("none.bin"))]).await;
    let (status, answer) = world.version("m", &missing).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("there is no such file"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_is_told_once() {
    let world = World::begin().await;
    let id = world.onnx_model(MODEL).await;
    world.version("m", &id).await;
    world.version("m", &id).await;
    for version in ["1", "1", "2"] {
        let body = json!({"name": "m", "alias": "champion", "version": version});
        world.post("registered-models/alias", body).await;
    }
    let events = world.events("slipway.registry.alias.set", 3).await;
    let versions: Vec<serde_json::Value> = events.iter().map(|event| event.parse().unwrap()).collect();
    let told =
        |version: &str| json!({"model": "m", "alias": "champion", "version": version, "model_id": "1"});
    let again =
        json!({"model": "m", "alias": "champion", "version": "1", "unchanged": true, "model_id": "1"});
    assert_eq!(versions, [told("1"), again, told("2")]);
    let made = world.events("slipway.registry.model-version.created", 2).await;
    assert_eq!(made.iter().map(|event| event.entity.as_str()).collect::<Vec<_>>(), ["m/1", "m/2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_keeps_ids_and_numbers() {
    let world = World::begin().await;
    let run = "0123456789abcdef0123456789abcdef";
    let made = world.post("runs/create", json!({"run_id": run, "run_name": "old"})).await;
    assert_eq!(made["run"]["info"]["run_id"], run);
    let again = json!({"run_id": run});
    world.refused(Method::POST, "runs/create", again, "RESOURCE_ALREADY_EXISTS", "already exists").await;
    let model = "m-0123456789abcdef0123456789abcdef";
    let body = json!({"experiment_id": "0", "model_id": model});
    assert_eq!(world.post("logged-models", body.clone()).await["model"]["info"]["model_id"], model);
    world.refused(Method::POST, "logged-models", body, "RESOURCE_ALREADY_EXISTS", "already exists").await;
    let wrong = json!({"experiment_id": "0", "model_id": "m-../../x"});
    world.refused(Method::POST, "logged-models", wrong, "INVALID_PARAMETER_VALUE", "'model_id'").await;

    world.post("registered-models/create", json!({"name": "kept"})).await;
    let version = |asked: Option<&str>| {
        let mut body = json!({"name": "kept", "source": "s3://elsewhere/model"});
        if let Some(asked) = asked {
            body["version"] = json!(asked);
        }
        body
    };
    for (asked, expected) in [(Some("7"), "7"), (None, "8"), (Some("3"), "3"), (None, "9")] {
        let made = world.post("model-versions/create", version(asked)).await;
        assert_eq!(made["model_version"]["version"], expected);
    }
    let taken = version(Some("7"));
    world.refused(Method::POST, "model-versions/create", taken, "RESOURCE_ALREADY_EXISTS", "version 7").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_runs_code_where_it_is_loaded_is_found_and_not_served() {
    let world = World::begin().await;
    world.post("registered-models/create", json!({"name": "m"})).await;
    // What `pickle.dumps` makes of a list, and of an object whose `__reduce__` asks for `os.system("id")`.
    let (data, payload) = (&b"\x80\x04]\x94(K\x01K\x02e."[..], &b"cposix\nsystem\n(S'id'\ntR."[..]);
    let scan_of = async |files: &[(&str, &[u8])]| {
        let id = world.logged_model(files).await;
        let (status, made) = world.version("m", &id).await;
        assert_eq!(status, StatusCode::OK, "{made}");
        let number = made["model_version"]["version"].as_str().unwrap();
        world.get(&format!("/api/v1/models/m/versions/{number}")).await
    };
    let harmless = scan_of(&[("model.onnx", MODEL), ("notes.txt", b"hello"), ("scaler.pkl", data)]).await;
    assert_eq!((&harmless["servable"], &harmless["scan"]["verdict"]), (&json!(true), &json!("safe")));
    assert_eq!(harmless["scan"]["files"][0]["format"], "pickle");
    // Its name does not hide what it is.
    let evil = scan_of(&[("model.onnx", MODEL), ("vocabulary.txt", payload)]).await;
    assert_eq!((&evil["servable"], &evil["scan"]["verdict"]), (&json!(false), &json!("unsafe")));
    let reason = evil["unservable_reason"].as_str().unwrap();
    assert!(reason.contains("'vocabulary.txt'") && reason.contains("posix.system"), "{reason}");
    assert_eq!(evil["scan"]["files"][0]["findings"][0]["code"], "dangerous-global");
    assert_eq!(evil["scan"]["files"][0]["globals"], json!(["posix.system"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_classifier_with_zip_map_has_a_tensor_and_classes_and_rows_that_interact_are_named() {
    let world = World::begin().await;
    world.post("registered-models/create", json!({"name": "m"})).await;
    let version = async |graph: &Graph| {
        let id = world.onnx_model(&graph.model(17)).await;
        let (status, made) = world.version("m", &id).await;
        assert_eq!(status, StatusCode::OK, "{made}");
        let number = made["model_version"]["version"].as_str().unwrap();
        world.get(&format!("/api/v1/models/m/versions/{number}")).await
    };
    let begin = || {
        let mut graph = Graph::default();
        graph.input("x", onnx::FLOAT, &[None, Some(2)]);
        graph
    };
    let mut graph = begin();
    graph.node("Softmax", &["x"], &["probabilities"], &[]);
    let classes = [("classlabels_strings", Attribute::Texts(vec!["ja".into(), "nein".into()]))];
    graph.node("ai.onnx.ml:ZipMap", &["probabilities"], &["output_probability"], &classes);
    graph.map_output("output_probability", onnx::STRING);
    let one = version(&graph).await;
    assert_eq!(one["servable"], true, "{one}");
    assert_eq!(
        one["outputs"][0],
        json!({"name": "output_probability", "datatype": "FP32", "shape": [-1, 2], "classes": ["ja", "nein"]})
    );
    assert_eq!(one["joining"], json!({"row_wise": true}));
    let mut graph = begin();
    graph.node("DynamicQuantizeLinear", &["x"], &["q", "scale", "zero"], &[]);
    graph.node("DequantizeLinear", &["q", "scale", "zero"], &["y"], &[]);
    graph.output("y", onnx::FLOAT);
    let two = version(&graph).await;
    assert_eq!((&two["servable"], &two["joining"]["row_wise"]), (&json!(true), &json!(false)));
    let reason = two["joining"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("node 'DynamicQuantizeLinear_0' (DynamicQuantizeLinear)"), "{reason}");
    // Another sequence has another cause.
    let mut graph = begin();
    graph.node("SequenceConstruct", &["x"], &["list"], &[]);
    graph.typed_output("list", 4, &[10, 4, 10, 2, 8, 1]);
    let three = version(&graph).await;
    let reason = three["unservable_reason"].as_str().unwrap();
    assert!(reason.contains("seq(tensor(float))") && !reason.contains("zipmap"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_an_older_inspection_judged_is_inspected_again() {
    let world = World::begin().await;
    let id = world.onnx_model(MODEL).await;
    for _ in 0..2 {
        assert!(world.version("m", &id).await.0.is_success());
    }
    let database = sqlx::PgPool::connect(&world.database).await.unwrap();
    for old in [
        "UPDATE registry.model_versions SET servable = FALSE, \
           facts = facts - 'inspection' || '{\"unservable_reason\": \"its output is a sequence\"}' \
           WHERE version = 1",
        "INSERT INTO registry.model_version_tags SELECT model_key, 1, 'slipway.unservable', 'old' \
         FROM registry.registered_models",
        // Of this one every byte is gone: what is known of it stays.
        "UPDATE registry.model_versions SET facts = facts - 'inspection' WHERE version = 2",
        "UPDATE registry.model_version_files SET blob_key = 'blobs/gone' WHERE version = 2",
    ] {
        sqlx::query(old).execute(&database).await.unwrap();
    }
    assert_eq!(world.get("/api/v1/models/m/versions/1").await["servable"], false);
    let replica = world.replica().await;
    let started = std::time::Instant::now();
    let outdated = "SELECT version::TEXT FROM registry.model_versions WHERE facts->'inspection' IS NULL";
    while !replica.column(outdated).await.is_empty() {
        assert!(started.elapsed() < std::time::Duration::from_secs(30), "nothing is inspected again");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let version = replica.get("/api/v1/models/m/versions/1").await;
    assert_eq!(
        (&version["servable"], &version["unservable_reason"]),
        (&json!(true), &json!(null)),
        "{version}"
    );
    assert_eq!(version["tags"], json!({}));
    assert_eq!(replica.get("/api/v1/models/m/versions/2").await["servable"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_profile_that_does_not_fit_is_told_at_registration() {
    let world = World::begin().await;
    world.post("registered-models/create", json!({"name": "m"})).await;
    let column = |name: &str| {
        json!({"name": name, "edges": [], "counts": [5], "min": 0.0, "max": 1.0,
        "sample": [0.0, 1.0]})
    };
    let profile = |names: &[&str]| {
        let features: Vec<_> = names.iter().map(|name| column(name)).collect();
        json!({"schema": "slipway.profile/1", "rows": 5, "features": features}).to_string()
    };
    for (number, profile, why) in [
        (1, Some(profile(&["a", "b"])), None),
        (2, None, None),
        (3, Some(profile(&["a", "b", "c"])), Some("1 of its 3 features are not compared: c")),
        (4, Some(profile(&["a"])), Some("1 columns of the model are not compared")),
        (5, Some("{}".to_owned()), Some("it is not a profile")),
        (6, Some(profile(&[])), Some("`features`")),
    ] {
        let run = world.run().await;
        if let Some(profile) = profile {
            let path = format!("0/{run}/artifacts/slipway/profile.json");
            assert_eq!(world.put_file(&path, profile.as_bytes()).await.0, StatusCode::OK);
        }
        assert_eq!(
            world.put_file(&format!("0/{run}/artifacts/model/model.onnx"), MODEL).await.0,
            StatusCode::OK
        );
        let body = json!({"name": "m", "source": format!("runs:/{run}/model"), "run_id": run}).to_string();
        let made = world.raw(Method::POST, "/api/2.0/mlflow/model-versions/create", body).await;
        assert_eq!(made.status(), StatusCode::OK);
        let warning = made.headers().get("warning").map(|text| text.to_str().unwrap().to_owned());
        let card = world.get(&format!("/api/v1/models/m/versions/{number}/card")).await;
        let told = card["profile_misfit"].as_str();
        match why {
            None => assert_eq!((warning, told), (None, None), "{number}"),
            Some(why) => {
                assert!(told.unwrap().contains(why), "{number}: {card}");
                assert!(warning.unwrap().contains("slipway/profile.json"), "{number}");
                assert_eq!(card["servable"], true, "a profile keeps no version from being served");
            }
        }
    }
}
