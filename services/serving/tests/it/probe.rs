//! Models that crash ONNX Runtime, fill the memory or never end: each costs its version, and nothing else.

use std::process::Command;

use bytes::Bytes;
use reqwest::StatusCode;
use serde_json::json;
use slipway_api::traffic::Target;
use slipway_testkit::onnx::{self, Attribute, BOOL, FLOAT, Graph, INT64};

use crate::serving::{PROGRAM, Serving, cache};
use crate::world::{World, canary, eventually, fixture, table};

/// A model of one input, `x`, of this shape.
fn model(shape: &[i64], build: impl FnOnce(&mut Graph)) -> Bytes {
    let mut graph = Graph::default();
    let shape: Vec<Option<i64>> = shape.iter().copied().map(Some).collect();
    graph.input("x", FLOAT, &shape);
    build(&mut graph);
    graph.output("y", FLOAT);
    graph.model(17).into()
}

/// Reads coefficients of 10 000 features where there is one: a crash of ONNX Runtime 1.23.
fn reads_beyond() -> Bytes {
    model(&[1, 10_000], |graph| {
        let attributes = [
            ("coefficients", Attribute::Floats(vec![1.0])),
            ("intercepts", Attribute::Floats(vec![0.0])),
            ("targets", Attribute::Int(1000)),
        ];
        graph.node("ai.onnx.ml:LinearRegressor", &["x"], &["y"], &attributes);
    })
}

/// Writes where an index says, on a thread of its own: another one.
fn writes_beyond() -> Bytes {
    model(&[1, 1, 2, 2], |graph| {
        graph.constant(&onnx::ints("at", &[1, 1, 2, 2], &[1 << 40; 4]));
        let window = |name| (name, Attribute::Ints(vec![2, 2]));
        graph.node("MaxUnpool", &["x", "at"], &["y"], &[window("kernel_shape"), window("strides")]);
    })
}

/// Runs a loop of 2^62 rounds.
fn never_ends() -> Bytes {
    let mut body = Graph::default();
    body.input("round", INT64, &[]);
    body.input("on", BOOL, &[]);
    body.input("before", FLOAT, &[Some(1)]);
    body.node("Identity", &["on"], &["on_still"], &[]);
    body.node("Identity", &["before"], &["after"], &[]);
    body.output("on_still", BOOL);
    body.output("after", FLOAT);
    model(&[1], |graph| {
        graph.constant(&onnx::ints("rounds", &[], &[1 << 62]));
        graph.constant(&onnx::tensor("on", BOOL, &[], &[1]));
        graph.node("Loop", &["rounds", "on", "x"], &["y"], &[("body", Attribute::Graph(body.body()))]);
    })
}

/// Makes a tensor of 4 GiB.
fn fills_memory() -> Bytes {
    model(&[1], |graph| {
        graph.constant(&onnx::ints("shape", &[1], &[1 << 30]));
        graph.node("ConstantOfShape", &["shape"], &["much"], &[]);
        graph.node("Add", &["x", "much"], &["y"], &[]);
    })
}

async fn version(world: &World, version: &str, model: &Bytes) -> Target {
    world.damaged_version(version, model, model).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_crashes_onnx_runtime_costs_its_version_and_nothing_else() {
    let (world, cache) = (World::start().await, cache());
    let good = world.version("1", "linear_minus_one.onnx").await;
    let library = slipway_testkit::oldest_onnxruntime_library().display().to_string();
    let settings = [("SLIPWAY_ONNXRUNTIME_LIB", library.as_str())];
    world.put(&table(1, &good)).await;
    let mut serving = Serving::start(&world, &cache, &settings).await;
    serving.wait_until_ready().await;
    let mut revision = 1;
    for (number, model) in [("2", reads_beyond()), ("3", writes_beyond())] {
        revision += 1;
        world.put(&canary(revision, &good, &version(&world, number, &model).await, 50)).await;
        let reason = world.failed(number).await;
        assert!(reason.contains("crashed a child process with SIG"), "{reason}");
        for _ in 0..10 {
            assert_eq!(serving.predict([0.0, 0.0]).await.version, "1");
        }
    }
    let shown = serving.shown().await;
    assert!(shown.contains("serving_load_probes_total{outcome=\"crashed\"} 2"), "{shown}");
    assert!(shown.contains("serving_load_probes_total{outcome=\"passed\"} 1"), "{shown}");
    let (status, ready) = serving.get("/v2/models/points/versions/3/ready").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{ready}");
    serving.kill();
    drop(serving);

    // It is known what comes of them.
    let serving = Serving::start(&world, &cache, &settings).await;
    serving.wait_until_ready().await;
    assert!(world.failed("3").await.contains("crashed a child process with SIG"));
    assert_eq!(serving.predict([0.0, 0.0]).await.version, "1");
    let shown = serving.shown().await;
    assert!(shown.contains("serving_load_probes_total{outcome=\"known\"} 2"), "{shown}");
    assert!(!shown.contains("outcome=\"crashed\"") && !shown.contains("outcome=\"passed\""), "{shown}");
    drop(serving);

    // Another version of the library is another matter: this one survives them, and its runs fail.
    let serving = Serving::start(&world, &cache, &[]).await;
    let state = eventually("it is known what becomes of version 3", || async {
        let (_, index) = serving.post("/v2/repository/index", &json!({})).await;
        let models = index.as_array().cloned().unwrap_or_default();
        let known = models.into_iter().find(|model| model["version"] == "3" && model["state"] != "LOADING");
        known.filter(|model| model["state"].is_string())
    })
    .await;
    assert!(!state.to_string().contains("crashed"), "{state}");
    let shown = serving.shown().await;
    assert!(!shown.contains("outcome=\"crashed\"") && !shown.contains("outcome=\"known\""), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_never_ends_or_fills_the_memory_is_given_up() {
    let (world, cache) = (World::start().await, cache());
    let good = world.version("1", "linear_minus_one.onnx").await;
    world.put(&table(1, &good)).await;
    let settings = [
        ("SLIPWAY_SERVING_LOAD_PROBE_TIMEOUT_S", "10"),
        ("SLIPWAY_SERVING_LOAD_PROBE_MEMORY_LIMIT_BYTES", "2000000000"),
    ];
    let serving = Serving::start(&world, &cache, &settings).await;
    serving.wait_until_ready().await;
    for (revision, number, model, told) in [
        (2, "2", never_ends(), "did not load within 10 s in a child process"),
        (3, "3", fills_memory(), "memory"),
    ] {
        world.put(&canary(revision, &good, &version(&world, number, &model).await, 50)).await;
        let reason = world.failed(number).await;
        let told = [told, "bad_alloc", "SIGABRT"];
        assert!(told.iter().any(|told| reason.contains(told)), "{reason}");
        assert_eq!(serving.predict([0.0, 0.0]).await.version, "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_no_runtime_may_read_reach_no_runtime() {
    let (world, cache) = (World::start().await, cache());
    let good = world.version("1", "linear_minus_one.onnx").await;
    world.put(&table(1, &good)).await;
    let serving = Serving::ready(&world, &cache).await;
    let outside = |location: &str| {
        model(&[64], |graph| {
            graph.constant(&onnx::external("w", FLOAT, &[64], location, 4096, 256));
            graph.node("Add", &["x", "w"], &["y"], &[]);
        })
    };
    let cycle: Bytes = {
        let mut graph = Graph::default();
        graph.input("x", FLOAT, &[Some(1)]);
        graph.node("my:F", &["x"], &["y"], &[]);
        graph.output("y", FLOAT);
        graph.function("my", "F", "my:F", &["x"], &["y"]);
        graph.model(17).into()
    };
    let short = model(&[1], |graph| {
        graph.constant(&onnx::tensor("w", FLOAT, &[1_000_000], b"1234"));
        graph.node("Add", &["x", "w"], &["y"], &[]);
    });
    for (at, (model, told)) in [
        (outside("*/_ORT_MEM_ADDR_/*"), "ONNX Runtime takes it for an address in memory"),
        (outside("../../../../etc/passwd"), "'..' is not allowed"),
        (outside("/etc/passwd"), "expected a path relative to the model's folder"),
        (outside("missing.bin"), "its folder has no such file"),
        // The model's own file, which is shorter.
        (outside("model.onnx"), "the file has"),
        (cycle, "calls itself"),
        (short, "holds 4 bytes of raw_data"),
    ]
    .into_iter()
    .enumerate()
    {
        let number = (at + 2).to_string();
        let revision = at as u64 + 2;
        world.put(&canary(revision, &good, &version(&world, &number, &model).await, 50)).await;
        let reason = world.failed(&number).await;
        assert!(reason.contains(told), "{reason}");
    }
    assert_eq!(serving.predict([0.0, 0.0]).await.version, "1");
    let shown = serving.shown().await;
    assert!(shown.contains("serving_load_probes_total{outcome=\"passed\"} 1"), "no child: {shown}");
    assert!(!shown.contains("outcome=\"refused\"") && !shown.contains("outcome=\"crashed\""), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_models_is_looked_at_as_well() {
    let (world, cache, models) = (World::start().await, cache(), cache());
    let at = |name: &str| models.path().join(name);
    let secret = cache.path().join("secret");
    std::fs::write(&secret, vec![0; 65_536]).unwrap();
    for (name, file) in [("good", "linear_minus_one.onnx"), ("linked", "external.onnx")] {
        std::fs::create_dir_all(at(name).join("1")).unwrap();
        std::fs::write(at(name).join("1/model.onnx"), fixture(file)).unwrap();
    }
    std::os::unix::fs::symlink(&secret, at("linked/1/external.data")).unwrap();
    let address = model(&[64], |graph| {
        graph.constant(&onnx::external("w", FLOAT, &[64], "*/_ORT_MEM_ADDR_/*", 4096, 256));
        graph.node("Add", &["x", "w"], &["y"], &[]);
    });
    std::fs::create_dir_all(at("address/1")).unwrap();
    std::fs::write(at("address/1/model.onnx"), address).unwrap();
    let folder = models.path().display().to_string();
    let settings =
        [("SLIPWAY_SERVING_MODEL_DIR", folder.as_str()), ("SLIPWAY_SERVING_STRICT_READINESS", "false")];
    let serving = Serving::start(&world, &cache, &settings).await;
    serving.wait_until_ready().await;
    for (name, told) in [("linked", "has no such file"), ("address", "an address in memory")] {
        let (_, index) = serving.post("/v2/repository/index", &json!({})).await;
        let known = index.as_array().unwrap().iter().find(|model| model["name"] == name).cloned().unwrap();
        assert!(known["reason"].as_str().is_some_and(|reason| reason.contains(told)), "{index}");
    }
    let (status, _) = serving.get("/v2/models/good/ready").await;
    assert_eq!(status, StatusCode::OK);
    // A caller that puts a link in place later changes nothing, either: it is another file.
    std::fs::remove_file(at("linked/1/external.data")).unwrap();
    std::fs::write(at("linked/1/external.data"), vec![0; 65_536]).unwrap();
    eventually("the model is served", || async {
        (serving.get("/v2/models/linked/ready").await.0 == StatusCode::OK).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_ends_the_process_is_not_tried_indefinitely() {
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let mut serving = Serving::ready(&world, &cache).await;
    serving.kill();
    drop(serving);
    let serving_cache = cache.path().join("serving");
    let records: Vec<_> = std::fs::read_dir(serving_cache.join("probes")).unwrap().collect();
    assert_eq!(records.len(), 1);
    let name = records[0].as_ref().unwrap().file_name().into_string().unwrap();
    let key = name.trim_end_matches(".json").to_owned();
    // As a process leaves it that ended while it loaded the version.
    let interrupt = |at: usize| {
        std::fs::write(serving_cache.join("loading").join(format!("{key}.{at}")), "").unwrap();
    };
    interrupt(1);
    let mut serving = Serving::ready(&world, &cache).await;
    let shown = serving.shown().await;
    assert!(shown.contains("serving_load_probes_total{outcome=\"passed\"} 1"), "in a child again: {shown}");
    serving.kill();
    drop(serving);
    (1..=3).for_each(interrupt);
    let serving = Serving::start(&world, &cache, &[]).await;
    let reason = world.failed("1").await;
    assert!(reason.contains("serving ended 3 times while it loaded it"), "{reason}");
    assert_eq!(serving.get("/v2/health/live").await.0, StatusCode::OK);
}

#[test]
fn a_version_of_onnx_runtime_that_is_not_tested_is_refused_by_name() {
    let folder = cache();
    let (source, library) = (folder.path().join("other.c"), folder.path().join("libonnxruntime.so"));
    std::fs::write(
        &source,
        "static void *api(unsigned v) { return 0; }\nstatic const char *version(void) \
         { return \"1.99.0\"; }\nstruct base \
         { void *(*api)(unsigned); const char *(*version)(void); };\nconst struct base *OrtGetApiBase(void) \
         { static const struct base base = { api, version }; return &base; }\n",
    )
    .unwrap();
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    assert!(compiled.unwrap().success());
    let start = |untested: &str| {
        let started = Command::new(PROGRAM)
            .env("SLIPWAY_ONNXRUNTIME_LIB", &library)
            .env("SLIPWAY_ONNXRUNTIME_UNTESTED", untested)
            .env("SLIPWAY_CACHE_DIR", folder.path().join("cache"))
            .env("SLIPWAY_LISTEN", "127.0.0.1:0")
            .env("SLIPWAY_LISTEN_GRPC", "127.0.0.1:0")
            .env("SLIPWAY_LISTEN_METRICS", "127.0.0.1:0")
            .output()
            .unwrap();
        assert!(!started.status.success());
        String::from_utf8_lossy(&started.stderr).into_owned()
    };
    let log = start("false");
    let path = library.display().to_string();
    for part in ["ONNX Runtime 1.99.0", &path, "from 1.23 to 1.31", "SLIPWAY_ONNXRUNTIME_UNTESTED=true"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    // It is used then, and this one is none.
    assert!(start("true").contains("untested version of ONNX Runtime"));
}

#[test]
fn the_program_loads_nothing_for_a_process_that_does_not_wait_for_it() {
    let job = json!({"library": slipway_testkit::onnxruntime_library(), "untested": false,
        "model": "/dev/null",
        "device": "cpu", "fallback": false, "arena": true, "intra_threads": 1, "memory_bytes": null,
            "timeout_s": 1,
        "parent": 1});
    for argument in [job.to_string(), "{}".to_owned(), String::new()] {
        let ended = Command::new(PROGRAM).args(["load-model-and-exit", &argument]).output().unwrap();
        assert_eq!((ended.status.code(), ended.stdout.len()), (Some(64), 0));
    }
}
