//! TLS on both ports, with real clients; certificates change while the server runs.

use std::path::Path;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use reqwest::{Certificate, Client, Identity};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use slipway_api::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use slipway_testkit::{TestAuthority, TestCertificate};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use crate::grpc::floats_request;
use crate::serving::{Serving, cache, point};
use crate::world::{DEPLOYMENT, World, eventually, table};

/// Midnights, UTC, of the 3rd.
const FEBRUARY_2031: u64 = 1_927_843_200;
const FEBRUARY_2032: u64 = 1_959_379_200;

fn put(folder: &Path, issued: &TestCertificate) {
    std::fs::write(folder.join("cert.pem"), &issued.certificate).expect("it works");
    std::fs::write(folder.join("key.pem"), &issued.key).expect("it works");
}

/// A client that trusts one authority, and may show a certificate.
fn client(authority: &TestAuthority, shown: Option<&TestCertificate>) -> Client {
    let trusted = Certificate::from_pem(authority.certificate().as_bytes()).expect("it works");
    let mut client = Client::builder().tls_certs_only([trusted]);
    if let Some(shown) = shown {
        let pem = format!("{}{}", shown.certificate, shown.key);
        client = client.identity(Identity::from_pem(pem.as_bytes()).expect("it works"));
    }
    client.build().expect("it works")
}

async fn predicts(serving: &Serving, client: &Client) -> Option<reqwest::Version> {
    let url = serving.url(&format!("/v2/models/{DEPLOYMENT}/infer")).replace("http:", "https:");
    let answer = client.post(url).json(&point([0.0, 0.0])).send().await.ok()?;
    assert_eq!(answer.status(), 200);
    Some(answer.version())
}

/// A channel over HTTP/2, as ALPN has agreed it.
async fn channel(serving: &Serving, authority: &TestAuthority) -> Channel {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.certificate().as_bytes()).expect("it works"))
        .expect("it works");
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let address = serving.grpc.trim_start_matches("http://").to_owned();
    let connect = tower::service_fn(move |_uri| {
        let (connector, address) = (connector.clone(), address.clone());
        async move {
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::try_from("127.0.0.1").expect("an address");
            let stream = connector.connect(name, stream).await?;
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            std::io::Result::Ok(TokioIo::new(stream))
        }
    });
    Endpoint::from_static("http://127.0.0.1").connect_with_connector(connect).await.expect("it works")
}

async fn secured(folder: &Path, cache: &tempfile::TempDir, more: &[(&str, &str)]) -> (World, Serving) {
    let world = World::start().await;
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let mut environment = vec![
        ("SLIPWAY_TLS_CERT", certificate.to_str().expect("it works")),
        ("SLIPWAY_TLS_KEY", key.to_str().expect("it works")),
    ];
    environment.extend(more);
    let serving = Serving::start_unasked(&world, cache, &environment);
    world.routed(1).await;
    (world, serving)
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ports_speak_tls_and_a_new_certificate_is_taken_without_a_restart() {
    let (cache, files) = (cache(), cache());
    let (before, after) = (TestAuthority::new(), TestAuthority::new());
    put(files.path(), &before.issue_until("127.0.0.1", (2031, 2, 3)));
    let (_world, serving) = secured(files.path(), &cache, &[]).await;
    let trusting = client(&before, None);
    let version = eventually("it answers", || predicts(&serving, &trusting)).await;
    assert_eq!(version, reqwest::Version::HTTP_11);
    let mut grpc = GrpcInferenceServiceClient::new(channel(&serving, &before).await);
    assert_eq!(grpc.model_infer(floats_request()).await.unwrap().into_inner().model_version, "1");
    assert_eq!(predicts(&serving, &client(&after, None)).await, None, "another authority is not trusted");
    assert!(
        serving.http.get(serving.url("/v2/health/live")).send().await.is_err(),
        "plain text is not spoken"
    );

    // A key that is not the certificate's changes nothing.
    let ends = |unix_s: u64| format!("slipway_serving_tls_certificate_expires_timestamp_seconds {unix_s}\n");
    assert!(serving.shown().await.contains(&ends(FEBRUARY_2031)));
    assert!(serving.shown().await.contains("slipway_serving_tls_file_errors_total 0\n"));
    std::fs::write(files.path().join("key.pem"), after.issue("127.0.0.1").key).unwrap();
    eventually("the mistake is counted", || async {
        serving.shown().await.contains("slipway_serving_tls_file_errors_total 1\n").then_some(())
    })
    .await;
    assert!(serving.log().contains("TLS files invalid"), "{}", serving.log());
    assert!(serving.shown().await.contains(&ends(FEBRUARY_2031)));
    assert!(predicts(&serving, &client(&before, None)).await.is_some());
    put(files.path(), &after.issue_until("127.0.0.1", (2032, 2, 3)));
    let renewed = client(&after, None);
    eventually("the new certificate is shown", || predicts(&serving, &renewed)).await;
    assert!(serving.shown().await.contains(&ends(FEBRUARY_2032)));
    // Who was connected stays connected.
    assert!(predicts(&serving, &trusting).await.is_some());
    assert!(grpc.model_infer(floats_request()).await.is_ok());
    assert_eq!(predicts(&serving, &client(&before, None)).await, None, "new connections get the new one");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_show_certificates_where_they_have_to() {
    let (cache, files) = (cache(), cache());
    let (authority, stranger) = (TestAuthority::new(), TestAuthority::new());
    put(files.path(), &authority.issue("127.0.0.1"));
    let clients = files.path().join("clients.pem");
    std::fs::write(&clients, authority.certificate()).unwrap();
    let (_world, serving) =
        secured(files.path(), &cache, &[("SLIPWAY_TLS_CLIENT_CA", clients.to_str().unwrap())]).await;
    let known = client(&authority, Some(&authority.issue("checkout")));
    eventually("it answers", || predicts(&serving, &known)).await;
    assert_eq!(predicts(&serving, &client(&authority, None)).await, None);
    // The server's alert follows the handshake, so the connection may also end before the client reads it.
    let told = || async {
        let anonymous = client(&authority, None);
        let refused = anonymous.get(serving.url("/v2").replace("http:", "https:")).send().await;
        let told = format!("{:?}", refused.expect_err("no certificate, no answer"));
        told.contains("CertificateRequired").then_some(told)
    };
    eventually("the client is told why", told).await;
    assert_eq!(predicts(&serving, &client(&authority, Some(&stranger.issue("checkout")))).await, None);
}
