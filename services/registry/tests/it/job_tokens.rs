//! Tokens of training jobs, and the tokens that the configuration gives to other services.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use slipway_api::proto::registry::job_tokens_client::JobTokensClient;
use slipway_api::proto::registry::registry_client::RegistryClient;
use slipway_api::proto::registry::{
    GetModelVersionRequest, IssueJobTokenRequest, JobToken, RevokeJobTokensRequest,
};
use slipway_grpc_client::TracedChannel;
use slipway_service_kit::registry::{RegistryToken, registry_channel};
use tonic::{Code, Status};

use crate::world::World;

const LAUNCHER: &str = "the launcher's token, of 32 characters at least";
const SERVICES: &str = "the services' token, of 32 characters at least";
const JOB: &str = "0198c0de-0000-7000-8000-000000000001";

async fn world(more: &[&str]) -> World {
    let (launcher, services) =
        (format!("--launcher-token={LAUNCHER}"), format!("--services-token={SERVICES}"));
    World::guarded(&[&[launcher.as_str(), services.as_str()], more].concat()).await
}

fn channel(world: &World, token: &str) -> TracedChannel {
    let token = RegistryToken::of(token.to_owned()).resolve().unwrap();
    registry_channel(&world.url, &token).unwrap()
}

async fn issue(world: &World, token: &str, job: &str, expires_in_s: u64) -> Result<JobToken, Status> {
    let request = IssueJobTokenRequest { job_id: job.to_owned(), expires_in_s };
    Ok(JobTokensClient::new(channel(world, token)).issue(request).await?.into_inner())
}

async fn revoke(world: &World, token: &str, job: &str) -> Result<u32, Status> {
    let request = RevokeJobTokensRequest { job_id: job.to_owned() };
    Ok(JobTokensClient::new(channel(world, token)).revoke(request).await?.into_inner().revoked)
}

async fn send(world: &World, token: &str, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
    let request = world.http.request(method, format!("{}/api/{path}", world.url)).bearer_auth(token);
    let response = request.json(&body).send().await.unwrap();
    let status = response.status();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_may_write_and_takes_no_decisions_and_its_token_ends_with_it() {
    let world = world(&[]).await;
    let first = issue(&world, LAUNCHER, JOB, 600).await.unwrap().token;
    let (_, me) = send(&world, &first, Method::GET, "v1/me", json!({})).await;
    assert_eq!(me["principal"], format!("job:{JOB}"), "{me}");
    for (method, path, body, expected) in [
        (Method::POST, "2.0/mlflow/experiments/create", json!({"name": "of the job"}), 200),
        (Method::POST, "2.0/mlflow/runs/create", json!({"experiment_id": "0"}), 200),
        (Method::POST, "2.0/mlflow/registered-models/create", json!({"name": "m"}), 200),
        (
            Method::POST,
            "2.0/mlflow/registered-models/alias",
            json!({"name": "m", "alias": "a", "version": "1"}),
            403,
        ),
        (Method::DELETE, "2.0/mlflow/registered-models/delete", json!({"name": "m"}), 403),
        (Method::POST, "v1/tokens", json!({"name": "t", "principal": "p"}), 403),
        (Method::PUT, "v1/grants", json!({"subject": "p", "role": "admin", "scope": "*"}), 403),
        (Method::GET, "v1/audit", json!({}), 403),
        (Method::POST, "v1/purge", json!({}), 403),
    ] {
        let (status, answer) = send(&world, &first, method, path, body).await;
        assert_eq!(status.as_u16(), expected, "{path}: {answer}");
    }
    // The next attempt's token ends the one before.
    let second = issue(&world, LAUNCHER, JOB, 600).await.unwrap().token;
    assert_eq!(send(&world, &first, Method::GET, "v1/me", json!({})).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(send(&world, &second, Method::GET, "v1/me", json!({})).await.0, StatusCode::OK);
    let other = issue(&world, LAUNCHER, "0198c0de-0000-7000-8000-000000000002", 600).await.unwrap().token;
    assert_eq!(revoke(&world, LAUNCHER, JOB).await.unwrap(), 1);
    assert_eq!(revoke(&world, LAUNCHER, JOB).await.unwrap(), 0, "as often as it takes");
    assert_eq!(send(&world, &second, Method::GET, "v1/me", json!({})).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(send(&world, &other, Method::GET, "v1/me", json!({})).await.0, StatusCode::OK);
    let (_, grants) =
        world.admin().send(Method::GET, &format!("/api/v1/grants?subject=job:{JOB}"), json!({})).await;
    assert_eq!(grants["grants"], json!([]), "its role ends with it");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_the_launcher_gets_tokens_of_jobs_and_the_launcher_gets_nothing_else() {
    let world = world(&["--job-role=deployer"]).await;
    let editor = world.person("ed", &[("*", "editor")]).await;
    let job = issue(&world, LAUNCHER, JOB, 600).await.unwrap().token;
    for token in [editor.token(), world.admin().token(), SERVICES, &job] {
        assert_eq!(issue(&world, token, JOB, 600).await.unwrap_err().code(), Code::PermissionDenied);
        assert_eq!(revoke(&world, token, JOB).await.unwrap_err().code(), Code::PermissionDenied);
    }
    assert_eq!(issue(&world, "not a token", JOB, 600).await.unwrap_err().code(), Code::Unauthenticated);
    for (job, expires_in_s) in
        [("", 600), ("admin", 600), ("../x", 600), (JOB, 0), (JOB, 91 * 24 * 3_600), (JOB, u64::MAX)]
    {
        assert_eq!(
            issue(&world, LAUNCHER, job, expires_in_s).await.unwrap_err().code(),
            Code::InvalidArgument,
            "{job}"
        );
    }
    for (path, body) in [
        ("2.0/mlflow/experiments/create", json!({"name": "x"})),
        ("2.0/mlflow/registered-models/create", json!({"name": "x"})),
        ("v1/tokens", json!({"name": "t", "principal": "p"})),
    ] {
        assert_eq!(
            send(&world, LAUNCHER, Method::POST, path, body.clone()).await.0,
            StatusCode::FORBIDDEN,
            "{path}"
        );
        assert_eq!(send(&world, SERVICES, Method::POST, path, body).await.0, StatusCode::FORBIDDEN, "{path}");
    }
    // Neither by hand nor by an identity provider.
    for (path, method, body) in [
        ("/api/v1/tokens", Method::POST, json!({"name": "t", "principal": format!("job:{JOB}")})),
        (
            "/api/v1/grants",
            Method::PUT,
            json!({"subject": format!("job:{JOB}"), "role": "admin", "scope": "*"}),
        ),
    ] {
        let (status, answer) = world.admin().send(method, path, body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}: {answer}");
    }
    // The role of jobs is the registry's to say.
    let (_, grants) =
        world.admin().send(Method::GET, &format!("/api/v1/grants?subject=job:{JOB}"), json!({})).await;
    assert_eq!(grants["grants"][0]["role"], "deployer", "{grants}");
}

#[tokio::test(flavor = "multi_thread")]
async fn services_read_with_their_own_token() {
    let world = world(&[]).await;
    let admin = world.admin();
    admin.send(Method::POST, "/api/2.0/mlflow/registered-models/create", json!({"name": "m"})).await;
    let request = || GetModelVersionRequest { model: "m".into(), version: "1".into(), ..Default::default() };
    let ask = |token: &str| {
        let channel = channel(&world, token);
        async move { RegistryClient::new(channel).get_model_version(request()).await.unwrap_err().code() }
    };
    assert_eq!(ask(SERVICES).await, Code::NotFound, "it may see that there is no such version");
    assert_eq!(ask(LAUNCHER).await, Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_access_off_no_token_is_made_that_would_be_valid_later() {
    let world = World::begin().await;
    assert_eq!(issue(&world, LAUNCHER, JOB, 600).await.unwrap(), JobToken::default());
    assert_eq!(revoke(&world, LAUNCHER, JOB).await.unwrap(), 0);
    assert_eq!(world.v1(Method::GET, "tokens", Value::Null).await.1["tokens"], json!([]));
}
