//! Credentials, and servers that reject an import or cannot be reached.

use slipway_mlflow_import::{ConfigError, Failure, Importer, Kind, Registry};

use crate::server::{Server, counts, everything, import};

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_with_access_control_requires_its_token() {
    let (source, target) = tokio::join!(Server::start(), Server::guarded());
    let experiment = source.experiment("a").await;
    source.run(&experiment, 1).await;
    for token in [None, Some("slw_wrong")] {
        let registry = Registry { address: target.url.clone(), token: token.map(Into::into) };
        let failure = Importer::new(everything(&source.url), &registry).unwrap().run().await.unwrap_err();
        assert!(matches!(failure, Failure::Refused { status: 401, .. }), "{token:?}: {failure:?}");
    }
    assert!(target.experiments().await.is_empty());
    let copied = import(everything(&source.url), &target).await;
    assert_eq!(counts(&copied, Kind::Runs).copied, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_server_is_named_without_its_credentials() {
    let port = slipway_testkit::free_port().unwrap();
    let source = format!("http://me:secret@127.0.0.1:{port}");
    let registry = Registry { address: "http://127.0.0.1:1".to_owned(), token: None };
    let failure = Importer::new(everything(&source), &registry).unwrap().run().await.unwrap_err();
    assert!(matches!(failure, Failure::Unreachable(_)), "{failure:?}");
    let message = failure.to_string();
    assert!(
        message.contains(&format!("http://127.0.0.1:{port}")) && !message.contains("secret"),
        "{message}"
    );
}

#[test]
fn both_addresses_have_to_be_different_http_servers() {
    let new = |source: &str, registry: &str| {
        let registry = Registry { address: registry.to_owned(), token: None };
        Importer::new(everything(source), &registry).map(drop)
    };
    assert!(matches!(new("old:5000", "http://new:5000"), Err(ConfigError::Source(_))));
    assert!(matches!(new("http://old:5000", "new"), Err(ConfigError::Registry(_))));
    // The slash at the end and the credentials make no other server.
    let same = new("http://me:secret@one:5000/", "http://one:5000");
    assert!(
        matches!(&same, Err(ConfigError::SameServer(address)) if address == "http://one:5000"),
        "{same:?}"
    );
    assert!(new("http://old:5000", "https://new").is_ok());
}
