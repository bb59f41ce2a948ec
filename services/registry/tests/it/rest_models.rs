//! Registered models, versions, aliases and files over REST v1.

use futures::StreamExt as _;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use slipway_api::rest::registry::{
    AliasTarget, ArtifactsQuery, ContentQuery, Description, Encoding, Force, ModelsQuery, NewModel,
    NewVersion, PreviewQuery, Rename, Stage, StageChange, VersionsQuery,
};
use slipway_api::rest::{PageQuery, TagValue as Text};
use slipway_client::registry::Owner;

use crate::world::{MODEL, World};

fn text(value: &str) -> Text {
    Text { value: value.to_owned() }
}

#[expect(clippy::too_many_lines, reason = "one story, told from its beginning to its end")]
#[tokio::test(flavor = "multi_thread")]
async fn a_model_goes_from_its_registration_to_an_alias_and_a_stage() {
    let world = World::begin().await;
    let client = world.client();
    let new = NewModel {
        name: "churn é".to_owned(),
        description: Some("first".to_owned()),
        tags: [("team".to_owned(), "a".to_owned())].into(),
    };
    assert_eq!(client.create_model(&new).await.unwrap().latest_version, None);
    let (status, problem) = world.v1(Method::POST, "models", json!({"name": "churn é"})).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("conflict")));

    let source = format!("models:/{}", world.onnx_model(MODEL).await);
    let version =
        NewVersion { source, tags: [("stage".to_owned(), "x".to_owned())].into(), ..NewVersion::default() };
    for number in ["1", "2"] {
        let made = client.create_version("churn é", &version).await.unwrap();
        assert_eq!((made.version.version.as_str(), made.version.servable), (number, true));
        assert!(made.files.iter().any(|file| file.path == "model.onnx"), "{:?}", made.files);
        assert_eq!(made.version.inputs.len(), 1);
    }
    client.set_alias("churn é", "champion", &AliasTarget { version: "2".to_owned() }).await.unwrap();
    assert_eq!(client.alias("churn é", "champion").await.unwrap().version, "2");
    assert_eq!(client.alias("churn é", "latest").await.unwrap().version, "2");
    client.delete_alias("churn é", "champion").await.unwrap();
    let (status, problem) =
        world.v1(Method::GET, "models/churn%20%C3%A9/aliases/champion", Value::Null).await;
    assert_eq!((status, &problem["code"]), (StatusCode::NOT_FOUND, &json!("not-found")));
    let (status, _) = world.v1(Method::PUT, "models/churn%20%C3%A9/aliases/a", json!({"version": "9"})).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "there is no version 9");

    let described = Description { description: "second".to_owned() };
    assert_eq!(client.describe_model("churn é", &described).await.unwrap().description.unwrap(), "second");
    let shown = client.describe_version("churn é", "1", &described).await.unwrap();
    assert_eq!(shown.version.description.unwrap(), "second");
    client.set_model_tag("churn é", "a/b", &text("1")).await.unwrap();
    client.set_version_tag("churn é", "1", "a/b", &text("1")).await.unwrap();
    client.delete_version_tag("churn é", "1", "stage").await.unwrap();
    let tags = client.version("churn é", "1").await.unwrap().version.tags;
    assert_eq!(tags.into_keys().collect::<Vec<_>>(), ["a/b"]);
    assert_eq!(client.model("churn é").await.unwrap().tags.len(), 2);
    client.delete_model_tag("churn é", "team").await.unwrap();

    for number in ["1", "2"] {
        let stage = StageChange { stage: Stage::Production, archive_existing: true };
        client.set_stage("churn é", number, &stage).await.unwrap();
    }
    let versions = client.versions("churn é", &PageQuery::default()).await.unwrap().versions;
    assert_eq!(
        versions.iter().map(|version| version.stage.as_str()).collect::<Vec<_>>(),
        ["Production", "Archived"]
    );
    world
        .refused_field(
            Method::PUT,
            "models/churn%20%C3%A9/versions/1/stage",
            json!({"stage": "live"}),
            "stage",
        )
        .await;

    let renamed = client.rename_model("churn é", &Rename { new_name: "churn".to_owned() }).await.unwrap();
    assert_eq!((renamed.name.as_str(), renamed.latest_version.as_deref()), ("churn", Some("2")));
    client.delete_version("churn", "1", Force::default()).await.unwrap();
    client.delete_model("churn", Force::default()).await.unwrap();
    assert_eq!(client.models(&ModelsQuery::default()).await.unwrap().models.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn models_and_versions_are_searched_page_by_page() {
    let world = World::begin().await;
    let client = world.client();
    let id = world.onnx_model(MODEL).await;
    for name in ["a", "b", "c"] {
        world.version(name, &id).await;
    }
    client.set_model_tag("b", "team", &text("x")).await.unwrap();
    client.set_model_tag("c", "team", &text("x")).await.unwrap();
    let query = |page_token| ModelsQuery {
        filter: Some("tags.team = 'x'".to_owned()),
        order_by: Some("name DESC".to_owned()),
        limit: Some(1),
        page_token,
    };
    let first = client.models(&query(None)).await.unwrap();
    let second = client.models(&query(first.next_page_token.clone())).await.unwrap();
    assert_eq!((first.models[0].name.as_str(), second.models[0].name.as_str()), ("c", "b"));
    assert_eq!(second.next_page_token, None);
    let versions = VersionsQuery { filter: Some("name = 'a'".to_owned()), ..VersionsQuery::default() };
    let versions = client.search_versions(&versions).await.unwrap().versions;
    assert_eq!((versions.len(), versions[0].model.as_str()), (1, "a"));
    for (path, field) in [
        ("models?filter=x", "filter"),
        ("models?order_by=x", "order_by"),
        ("model-versions?filter=x", "filter"),
        ("models?limit=1001", "limit"),
    ] {
        world.refused_field(Method::GET, path, Value::Null, field).await;
    }
    world.refused_field(Method::POST, "models", json!({"name": "a/b"}), "name").await;
    world.refused_field(Method::POST, "models/a/versions", json!({}), "source").await;
    world.refused_field(Method::PUT, "models/a/aliases/v1", json!({"version": "1"}), "alias").await;
    world.refused_field(Method::PUT, "models/a/aliases/b", json!({"version": "x"}), "version").await;
}

#[expect(clippy::too_many_lines, reason = "one story, told from its beginning to its end")]
#[tokio::test(flavor = "multi_thread")]
async fn files_are_listed_previewed_and_downloaded() {
    let world = World::begin().await;
    let client = world.client();
    let run = world.run().await;
    let long = "ä".repeat(50_000);
    for (path, bytes) in [
        ("notes.txt", long.as_bytes()),
        ("plots/loss.png", &b"\x89PNG\r\n\x1a\n\0\0"[..]),
        ("plots/acc.csv", &b"step,value\n1,2\n"[..]),
        ("empty", &b""[..]),
    ] {
        assert_eq!(world.put_file(&format!("0/{run}/artifacts/{path}"), bytes).await.0, StatusCode::OK);
    }
    let owner = Owner::Run(&run);
    let list = |path: Option<&str>, page_token| ArtifactsQuery {
        path: path.map(str::to_owned),
        limit: Some(2),
        page_token,
    };
    let first = client.artifacts(owner, &list(None, None)).await.unwrap();
    let second = client.artifacts(owner, &list(None, first.next_page_token.clone())).await.unwrap();
    let names: Vec<(&str, bool)> = first
        .artifacts
        .iter()
        .chain(&second.artifacts)
        .map(|one| (one.path.as_str(), one.is_directory))
        .collect();
    assert_eq!(names, [("empty", false), ("notes.txt", false), ("plots", true)]);
    let plots = client.artifacts(owner, &list(Some("plots"), None)).await.unwrap();
    assert_eq!(plots.artifacts[0].path, "plots/acc.csv");

    let preview = async |path: &str, max_bytes| {
        client.preview(owner, &PreviewQuery { path: path.to_owned(), max_bytes }).await.unwrap()
    };
    let text = preview("notes.txt", Some(5)).await;
    assert_eq!((text.content.as_str(), text.truncated, text.encoding), ("ää", true, Encoding::Utf8));
    assert_eq!((text.size_bytes, text.media_type.as_str()), (100_000, "text/plain"));
    assert_eq!(preview("notes.txt", None).await.content.len(), 65_536);
    let image = preview("plots/loss.png", None).await;
    assert_eq!(
        (image.encoding, image.truncated, image.media_type.as_str()),
        (Encoding::Base64, false, "image/png")
    );
    assert_eq!(preview("empty", None).await.content, "");

    let query = ContentQuery { path: "notes.txt".to_owned(), redirect: None };
    let mut body = client.download(owner, &query).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(chunk) = body.next().await {
        bytes.extend_from_slice(&chunk.unwrap());
    }
    assert_eq!(bytes, long.as_bytes());
    let part = world.http.get(format!("{}/api/v1/runs/{run}/artifacts/content?path=notes.txt", world.url));
    let part = part.header("range", "bytes=0-3").send().await.unwrap();
    assert_eq!((part.status(), part.text().await.unwrap().as_str()), (StatusCode::PARTIAL_CONTENT, "ää"));

    let at = format!("runs/{run}/artifacts");
    for (path, field) in [
        (format!("{at}/preview?path=notes.txt&max_bytes=0"), "max_bytes"),
        (format!("{at}/preview?path=notes.txt&max_bytes=99999999"), "max_bytes"),
        (format!("{at}?path=../x"), "path"),
        (format!("{at}/preview?path=plots"), "path"),
        (format!("{at}/content?path=../../x"), "path"),
    ] {
        world.refused_field(Method::GET, &path, Value::Null, field).await;
    }
    let (status, _) = world.v1(Method::GET, &format!("{at}/content?path=none"), Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND);

    let id = world.onnx_model(MODEL).await;
    world.version("m", &id).await;
    let owner = Owner::Version { model: "m", version: "1" };
    let files = client.artifacts(owner, &ArtifactsQuery::default()).await.unwrap().artifacts;
    assert_eq!(files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["MLmodel", "model.onnx"]);
    let query = PreviewQuery { path: "MLmodel".to_owned(), max_bytes: None };
    assert!(client.preview(owner, &query).await.unwrap().content.starts_with("flavors:"));
    let query = ContentQuery { path: "model.onnx".to_owned(), redirect: Some(true) };
    // Clients do not reach the artifact store here, so the file itself is returned.
    let mut body = client.download(owner, &query).await.unwrap();
    assert!(body.next().await.unwrap().unwrap().len() <= MODEL.len());
}
