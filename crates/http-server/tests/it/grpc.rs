//! gRPC next to REST on one port, with the client of `crates/grpc-client`.

use std::convert::Infallible;
use std::task::{Context, Poll};

use axum::Router;
use axum::routing::get as on_get;
use futures::future::{Ready, ready};
use http::{Request, Response};
use slipway_http_server::{Problem, server};
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
    World::serve(server::add_grpc(rest, WhoAmI)).await
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
    let channel = slipway_grpc_client::channel_with_token(&world.url(""), &"t0ken".into()).unwrap();
    assert_eq!(call(channel).await.message(), "there is no Bearer t0ken");
}

#[tokio::test]
async fn a_service_that_is_not_there_is_a_refusal_of_grpc_and_a_foreign_host_too() {
    let world = world().await;
    let request = client().post(world.url("/slipway.test.v1.WhoAmI/Call")).header("host", "evil.example");
    let answer = request.header("content-type", "application/grpc").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["grpc-status"]), (200, &"7".parse().unwrap()));
}
