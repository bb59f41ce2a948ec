//! gRPC next to REST on one port, with the client of `crates/grpc-client`.

use std::convert::Infallible;
use std::task::{Context, Poll};

use axum::Router;
use axum::routing::get as on_get;
use futures::future::{Ready, ready};
use http::{Request, Response};
use slipway_http_server::{Grpc, Problem};
use slipway_service_kit::registry::{RegistryToken, TokenFile, service_channel};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;

use crate::world::{World, client, get};

/// Refuses each call with what the caller proved.
#[derive(Debug, Clone)]
struct WhoAmI;

impl NamedService for WhoAmI {
    const NAME: &'static str = "slipway.test.v1.WhoAmI";
}

impl tower::Service<Request<axum::body::Body>> for WhoAmI {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<axum::body::Body>) -> Self::Future {
        let shown = request.headers().get("authorization").and_then(|value| value.to_str().ok());
        ready(Ok(Status::from(Problem::not_found(shown.unwrap_or("a stranger"))).into_http()))
    }
}

async fn world() -> World {
    let rest = Router::new().route("/rest", on_get(|| async { axum::Json("rest") }));
    World::serve(Grpc::beside(rest).with(WhoAmI).into_router()).await
}

async fn call(channel: slipway_grpc_client::TracedChannel) -> Status {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/slipway.test.v1.WhoAmI/Call");
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    client.unary(tonic::Request::new(()), path, codec).await.unwrap_err()
}

#[tokio::test]
async fn a_call_and_a_request_share_the_port_and_problems_become_statuses() {
    let world = world().await;
    assert_eq!(get(world.url("/rest")).await.1, "rest");
    let status = call(slipway_grpc_client::channel(&world.url("")).unwrap()).await;
    assert_eq!((status.code(), status.message()), (tonic::Code::NotFound, "there is no a stranger"));
    let route = r#"route="/slipway.test.v1.WhoAmI/{*method}""#;
    assert!(world.metrics.render().contains(route), "{}", world.metrics.render());
}

#[tokio::test]
async fn the_channel_s_token_is_shown_to_the_server() {
    let world = world().await;
    let token = slipway_grpc_client::Token::new(&"t0ken".into()).unwrap();
    let channel = slipway_grpc_client::channel_with_token(&world.url(""), &token).unwrap();
    assert_eq!(call(channel).await.message(), "there is no Bearer t0ken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_file_is_followed_as_kubernetes_swaps_it_and_a_broken_one_changes_nothing() {
    let (world, folder) = (world().await, tempfile::tempdir().unwrap());
    let swap = |version: &str, token: &[u8]| {
        std::fs::create_dir(folder.path().join(version)).unwrap();
        std::fs::write(folder.path().join(version).join("token"), token).unwrap();
        std::os::unix::fs::symlink(version, folder.path().join("..next")).unwrap();
        std::fs::rename(folder.path().join("..next"), folder.path().join("..data")).unwrap();
    };
    swap("v1", b"t-one\n");
    let file = TokenFile { service_token_file: Some(folder.path().join("..data/token")) };
    let token = RegistryToken { registry_token: None, file };
    let channel = service_channel(&world.url(""), &token.resolve().unwrap()).unwrap();
    let shown = async || call(channel.clone()).await.message().to_owned();
    assert_eq!(shown().await, "there is no Bearer t-one");
    swap("v2", b"t-two");
    while shown().await != "there is no Bearer t-two" {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // An empty file, as of a Secret that is being written, is no token.
    swap("v3", b"");
    swap("v4", b"t-four");
    loop {
        match shown().await.as_str() {
            "there is no Bearer t-two" => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            other => break assert_eq!(other, "there is no Bearer t-four"),
        }
    }
}

#[tokio::test]
async fn a_service_that_is_not_there_is_a_refusal_of_grpc_and_a_foreign_host_too() {
    let world = world().await;
    let request = client().post(world.url("/slipway.test.v1.WhoAmI/Call")).header("host", "evil.example");
    let answer = request.header("content-type", "application/grpc").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["grpc-status"]), (200, &"7".parse().unwrap()));
}
