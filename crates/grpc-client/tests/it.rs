//! Calls over real connections: the token and the trace arrive, calls have a limit, and a channel survives
//! its server.
#![expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on can only fail")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use slipway_grpc_client::{Token, TracedChannel, channel, channel_with_token};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// A slow machine needs this long at most.
const PATIENCE: Duration = Duration::from_secs(60);

type Shown = Arc<Mutex<Vec<Option<String>>>>;

/// Serves health checks; notes what each call shows as `authorization`.
async fn serve(address: SocketAddr, shown: &Shown) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let (address, shown) = (listener.local_addr().unwrap(), Arc::clone(shown));
    let (_reporter, health) = tonic_health::server::health_reporter();
    let note = move |request: Request<()>| -> Result<Request<()>, Status> {
        let value = request.metadata().get("authorization");
        shown.lock().unwrap().push(value.map(|value| value.to_str().unwrap().to_owned()));
        Ok(request)
    };
    let server = Server::builder()
        .layer(tonic::service::InterceptorLayer::new(note))
        .add_service(health)
        .serve_with_incoming(TcpIncoming::from(listener));
    (address, tokio::spawn(async move { server.await.unwrap() }))
}

async fn check(channel: &TracedChannel) -> Result<(), Status> {
    let mut client = HealthClient::new(channel.clone());
    client.check(HealthCheckRequest::default()).await.map(|_| ())
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

#[tokio::test]
async fn a_token_is_shown_with_each_call_and_none_where_there_is_none() {
    let shown = Shown::default();
    let (address, _server) = serve(loopback(), &shown).await;
    let url = format!("http://{address}");
    check(&channel(&url).unwrap()).await.unwrap();
    let token = Token::new(&"t0ken\n".into()).unwrap();
    let with_token = channel_with_token(&url, &token).unwrap();
    check(&with_token).await.unwrap();
    check(&with_token).await.unwrap();
    let bearer = Some("Bearer t0ken".to_owned());
    assert_eq!(*shown.lock().unwrap(), [None, bearer.clone(), bearer]);
}

#[tokio::test]
async fn a_channel_can_be_made_before_its_server_and_connects_again_after_a_loss() {
    let shown = Shown::default();
    let (address, server) = serve(loopback(), &shown).await;
    server.abort();
    let _ = server.await;
    let channel = channel(&format!("http://{address}")).unwrap();
    assert_eq!(check(&channel).await.unwrap_err().code(), Code::Unavailable);
    let (_, _server) = serve(address, &shown).await;
    let connected = tokio::time::timeout(PATIENCE, async {
        while check(&channel).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    connected.await.expect("the channel connects again");
}

/// A server that accepts connections and says nothing, as one that hangs.
#[tokio::test]
async fn a_call_that_gets_no_answer_ends_by_itself() {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let channel = channel(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let silent = tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            held.push(listener.accept().await.unwrap());
        }
    });
    let error = check(&channel).await.unwrap_err();
    assert!(matches!(error.code(), Code::Cancelled | Code::DeadlineExceeded | Code::Unavailable), "{error}");
    silent.abort();
}
