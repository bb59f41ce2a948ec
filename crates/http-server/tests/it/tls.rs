//! TLS of a port: HTTP/2 by ALPN, certificates of clients, and certificates that change while the server
//! runs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use reqwest::{Certificate, Client, Identity};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use slipway_http_server::TlsConfig;
use slipway_http_server::tls::Tls;
use slipway_testkit::{TestAuthority, TestCertificate};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::world::{World, free_port, within};

fn put(folder: &Path, issued: &TestCertificate) {
    std::fs::write(folder.join("cert.pem"), &issued.certificate).unwrap();
    std::fs::write(folder.join("key.pem"), &issued.key).unwrap();
}

fn config(folder: &Path) -> TlsConfig {
    TlsConfig {
        tls_cert: Some(folder.join("cert.pem")),
        tls_key: Some(folder.join("key.pem")),
        tls_client_ca: None,
    }
}

async fn secured(tls: Tls) -> World {
    let port = free_port().await.with_tls(Some(tls.clone()));
    let world = World::serve_on(port, Router::new().route("/", get(|| async { "secret" })));
    tls.register(&world.metrics, "test");
    tokio::spawn(tls.watch(world.shutdown.clone()));
    world
}

/// A client that trusts one authority, and may show a certificate.
fn client(authority: &TestAuthority, shown: Option<&TestCertificate>) -> Client {
    slipway_runtime::install_tls_provider();
    let trusted = Certificate::from_pem(authority.certificate().as_bytes()).unwrap();
    let client = Client::builder().tls_certs_only([trusted]);
    let Some(shown) = shown else { return client.build().unwrap() };
    let pem = format!("{}{}", shown.certificate, shown.key);
    client.identity(Identity::from_pem(pem.as_bytes()).unwrap()).build().unwrap()
}

/// The protocol that the server agrees to when a client offers one.
async fn agreed(world: &World, authority: &TestAuthority, offered: &[u8]) -> Option<Vec<u8>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.certificate().as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![offered.to_vec()];
    let stream = TcpStream::connect(world.address).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec)
}

async fn reaches(world: &World, client: &Client) -> bool {
    client.get(world.url("/").replace("http:", "https:")).send().await.is_ok()
}

#[tokio::test]
async fn a_secured_port_speaks_tls_only_and_http_2_by_alpn() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), TestAuthority::new());
    put(folder.path(), &authority.issue("127.0.0.1"));
    let world = secured(config(folder.path()).load().unwrap().unwrap()).await;
    let url = world.url("/").replace("http:", "https:");
    let answer = client(&authority, None).get(url).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "secret");
    for protocol in [&b"h2"[..], b"http/1.1"] {
        assert_eq!(agreed(&world, &authority, protocol).await.as_deref(), Some(protocol));
    }
    assert!(!reaches(&world, &client(&TestAuthority::new(), None)).await, "the client does not trust it");
    let plain = crate::world::client().get(world.url("/")).send().await;
    assert!(plain.is_err(), "plain text gets no answer");
}

#[tokio::test]
async fn where_clients_have_to_show_a_certificate_only_those_of_the_authority_are_let_in() {
    let (folder, authority, clients) =
        (tempfile::tempdir().unwrap(), TestAuthority::new(), TestAuthority::new());
    put(folder.path(), &authority.issue("127.0.0.1"));
    std::fs::write(folder.path().join("clients.pem"), clients.certificate()).unwrap();
    let config =
        TlsConfig { tls_client_ca: Some(folder.path().join("clients.pem")), ..config(folder.path()) };
    let world = secured(config.load().unwrap().unwrap()).await;
    assert!(reaches(&world, &client(&authority, Some(&clients.issue("alice")))).await);
    assert!(!reaches(&world, &client(&authority, Some(&authority.issue("mallory")))).await);
    assert!(!reaches(&world, &client(&authority, None)).await);
}

#[tokio::test]
async fn a_certificate_that_changes_is_used_for_new_connections_and_a_broken_one_is_not() {
    let (folder, first, second) = (tempfile::tempdir().unwrap(), TestAuthority::new(), TestAuthority::new());
    put(folder.path(), &first.issue("127.0.0.1"));
    let world = secured(config(folder.path()).load().unwrap().unwrap()).await;
    assert!(reaches(&world, &client(&first, None)).await);
    std::fs::write(folder.path().join("key.pem"), "nonsense").unwrap();
    within("the failure", async {
        while !world.counts("slipway_test_tls_file_errors_total 1") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(reaches(&world, &client(&first, None)).await, "the certificate before is still used");
    put(folder.path(), &second.issue_until("127.0.0.1", (2031, 2, 3)));
    within("the new certificate", async {
        while !reaches(&world, &client(&second, None)).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let expires = "slipway_test_tls_certificate_expires_timestamp_seconds 1927843200";
    assert!(world.counts(expires), "{}", world.metrics.render());
}

#[test]
fn files_that_do_not_fit_are_refused_by_the_name_of_the_setting() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), TestAuthority::new());
    let refused = |config: &TlsConfig| format!("{:#}", config.load().unwrap_err());
    let missing = refused(&config(folder.path()));
    assert!(missing.contains("cert.pem") && missing.contains("cannot be read"), "{missing}");
    put(folder.path(), &authority.issue("127.0.0.1"));
    std::fs::write(folder.path().join("key.pem"), authority.issue("127.0.0.1").key).unwrap();
    let foreign = refused(&config(folder.path()));
    assert!(foreign.contains("--tls-cert, --tls-key"), "{foreign}");
    std::fs::write(folder.path().join("cert.pem"), "nonsense").unwrap();
    let nonsense = refused(&config(folder.path()));
    assert!(nonsense.contains("expected PEM"), "{nonsense}");
    let alone = refused(&TlsConfig { tls_key: None, ..config(folder.path()) });
    assert!(alone.contains("a certificate needs its key"), "{alone}");
    assert!(TlsConfig::default().load().unwrap().is_none(), "no settings: plain text");
}
