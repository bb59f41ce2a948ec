//! What an import copies, and what it leaves out.

use slipway_mlflow_import::{Importer, Kind, Options};

use crate::server::{Server, counts, everything, import};

const POINTS: u32 = 40;

/// Two experiments with a run each, and a model of each run.
async fn source() -> (Server, [String; 2]) {
    let server = Server::start().await;
    let mut runs = Vec::new();
    for name in ["a", "b"] {
        let experiment = server.experiment(name).await;
        runs.push(server.run(&experiment, POINTS).await);
        server.model(&format!("model-{name}"), runs.last().unwrap()).await;
    }
    (server, runs.try_into().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_selected_is_copied() {
    let ((source, [in_a, in_b]), target) = tokio::join!(source(), Server::start());
    let only_a = Options { experiments: vec!["a".to_owned()], ..everything(&source.url) };
    let copied = import(only_a, &target).await;
    assert_eq!(counts(&copied, Kind::Runs).copied, 1);
    assert_eq!(counts(&copied, Kind::Models).found, 0, "models are selected separately");
    assert_eq!((target.experiments().await, target.models().await), (vec!["a".to_owned()], vec![]));
    assert!(target.find_run(&in_b).await.is_null());
    assert_eq!(target.points(&in_a).await, POINTS as usize);

    // Its run came with the first import.
    let model_a = Options { models: vec!["model-a".to_owned()], ..everything(&source.url) };
    import(model_a, &target).await;
    assert_eq!(target.models().await, ["model-a"]);
    assert_eq!(target.digest("model-a").await, source.digest("model-a").await);

    let model_b = Options { models: vec!["model-b".to_owned()], ..everything(&source.url) };
    let importer = Importer::new(model_b, &target.target()).unwrap();
    importer.run().await.unwrap();
    let summary = importer.summary();
    assert!(!summary.is_complete() && summary.stopped.is_none(), "{summary:?}");
    assert_eq!(summary.failures.len(), 1, "{summary:?}");
    assert_eq!(summary.failures[0].kind, Kind::Versions);
    assert!(summary.failures[0].reason.contains("import its experiment as well"), "{summary:?}");

    for (options, kind) in [
        (Options { experiments: vec!["c".to_owned()], ..everything(&source.url) }, Kind::Experiments),
        (Options { models: vec!["model-c".to_owned()], ..everything(&source.url) }, Kind::Models),
    ] {
        let importer = Importer::new(options, &target.target()).unwrap();
        importer.run().await.unwrap();
        let failures = importer.summary().failures;
        assert_eq!((failures.len(), failures[0].kind), (1, kind), "an unknown name: {failures:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_left_out_are_copied_by_a_later_import() {
    let ((source, runs), target) = tokio::join!(source(), Server::start());
    let without = Options { skip_artifacts: true, ..everything(&source.url) };
    let importer = Importer::new(without, &target.target()).unwrap();
    importer.run().await.unwrap();
    let summary = importer.summary();
    assert!(summary.is_complete(), "{summary:?}");
    assert_eq!(summary.progress.bytes_copied, 0);
    assert_eq!(counts(&summary.progress, Kind::Versions).skipped, 2, "a version pins its files");
    assert_eq!(summary.notes.len(), 1, "{summary:?}");
    assert_eq!(target.points(&runs[0]).await, POINTS as usize);

    let copied = import(everything(&source.url), &target).await;
    let bytes: usize = runs.iter().map(String::len).sum();
    assert_eq!(copied.bytes_copied, bytes as u64);
    assert_eq!(counts(&copied, Kind::Versions).copied, 2);
    for model in ["model-a", "model-b"] {
        let digest = source.digest(model).await;
        assert!(digest.is_string());
        assert_eq!(target.digest(model).await, digest, "{model}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_counts_what_an_import_copies_and_writes_nothing() {
    let ((source, runs), target) = tokio::join!(source(), Server::start());
    let planned = import(Options { dry_run: true, ..everything(&source.url) }, &target).await;
    assert!(target.experiments().await.is_empty() && target.models().await.is_empty());
    assert!(target.find_run(&runs[0]).await.is_null());

    let copied = import(everything(&source.url), &target).await;
    for kind in Kind::ALL {
        let (planned, copied) = (counts(&planned, kind), counts(&copied, kind));
        assert_eq!((planned.found, planned.copied), (copied.found, copied.copied), "{}", kind.name());
    }
    assert_eq!(planned.bytes_copied, copied.bytes_copied);
}

/// A dropped future stops where it is, as a killed process does.
#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_was_interrupted_continues_without_duplicates() {
    const RUNS: usize = 30;
    let (source, target) = tokio::join!(Server::start(), Server::start());
    let experiment = source.experiment("a").await;
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        runs.push(source.run(&experiment, POINTS).await);
    }
    let interrupted = Importer::new(Options { concurrency: 1, ..everything(&source.url) }, &target.target());
    let interrupted = interrupted.unwrap();
    let enough = async {
        while counts(&interrupted.progress(), Kind::Runs).copied < 3 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        ended = interrupted.run() => panic!("it was to be interrupted: {ended:?}"),
        () = enough => {}
    }
    let before = counts(&interrupted.progress(), Kind::Runs).copied;

    let rest = counts(&import(everything(&source.url), &target).await, Kind::Runs);
    assert_eq!(rest.copied + rest.skipped, RUNS as u64);
    assert!(rest.skipped >= before, "runs that were complete are not copied again: {rest:?}");
    for run in &runs {
        assert_eq!(target.points(run).await, POINTS as usize, "{run}");
    }
    let again = import(everything(&source.url), &target).await;
    assert_eq!(again.counts.iter().map(|(_, counts)| counts.copied).sum::<u64>(), 0, "{again:?}");
}
