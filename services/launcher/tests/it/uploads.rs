//! What an attempt may store and read: agents hold no key of the artifact store, and a URL is worth one
//! object.

use reqwest::{Method, StatusCode};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use slipway_api::proto::launcher::agents_client::AgentsClient;
use slipway_api::proto::launcher::{
    BeginUploadsRequest, CommitCheckpointRequest, DiscardUploadRequest, SignDownloadsRequest,
    SignPartsRequest, UploadFile, UploadTarget,
};
use slipway_domain::training::{MANIFEST_SCHEMA, Manifest, ManifestFile};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::processes;
use crate::world::World;

const MIB: u64 = 1024 * 1024;

/// A job whose command waits, and its agent as a test plays it.
struct Attempt {
    job: String,
    token: String,
    agents: AgentsClient<Channel>,
    http: reqwest::Client,
}

impl Attempt {
    async fn begin(world: &World) -> Self {
        let job =
            world.submit_script("while :; do sleep 0.1; done", json!({"checkpoint": {"keep": 1}})).await;
        let token = world.eventually("the agent", async || processes::token(&job)).await;
        let agents = AgentsClient::connect(world.url.clone()).await.unwrap();
        Self { job, token, agents, http: reqwest::Client::new() }
    }

    fn prefix(&self, step: u64, name: &str) -> String {
        format!("checkpoints/{}/{step:012}/1-{name}", self.job)
    }

    async fn begin_upload(&self, prefix: &str, path: &str, size_bytes: u64) -> Result<UploadTarget, Status> {
        let request = BeginUploadsRequest {
            job_id: self.job.clone(),
            attempt: 1,
            token: self.token.clone(),
            prefix: prefix.to_owned(),
            files: vec![UploadFile { path: path.to_owned(), size_bytes }],
        };
        let answer = self.agents.clone().begin_uploads(request).await?;
        Ok(answer.into_inner().targets.remove(0))
    }

    async fn put(&self, url: &str, bytes: &'static str) -> StatusCode {
        self.http.put(url).body(bytes).send().await.unwrap().status()
    }

    fn manifest(&self, step: u64, prefix: &str, content: &str) -> Manifest {
        Manifest {
            schema: MANIFEST_SCHEMA.to_owned(),
            job_id: self.job.clone(),
            attempt: 1,
            step,
            prefix: prefix.to_owned(),
            files: vec![ManifestFile {
                path: format!("{step}/w"),
                size_bytes: content.len() as u64,
                sha256: hex::encode(Sha256::digest(content)),
                mode: None,
                part: None,
            }],
            folders: Vec::new(),
            links: Vec::new(),
            resume_from: Some(step.to_string()),
            world_size: None,
            parts: Vec::new(),
            created_at_unix_ms: 1,
        }
    }

    async fn commit(&self, manifest: &Manifest) -> Result<(), Status> {
        let request = CommitCheckpointRequest {
            job_id: self.job.clone(),
            attempt: 1,
            token: self.token.clone(),
            step: manifest.step,
            manifest_key: manifest.key(),
            manifest_json: serde_json::to_string(manifest).unwrap(),
            process: 0,
        };
        self.agents.clone().commit_checkpoint(request).await.map(drop)
    }

    async fn downloads(&self, prefix: &str, path: &str) -> Result<String, Status> {
        let request = SignDownloadsRequest {
            job_id: self.job.clone(),
            attempt: 1,
            token: self.token.clone(),
            prefix: prefix.to_owned(),
            paths: vec![path.to_owned()],
        };
        Ok(self.agents.clone().sign_downloads(request).await?.into_inner().urls.remove(0))
    }

    async fn discard(&self, prefix: &str) -> Result<(), Status> {
        let request = DiscardUploadRequest {
            job_id: self.job.clone(),
            attempt: 1,
            token: self.token.clone(),
            prefix: prefix.to_owned(),
        };
        self.agents.clone().discard_upload(request).await.map(drop)
    }

    async fn end(self, world: &World) {
        world.cancel(&self.job).await;
        world.ended(&self.job, "cancelled").await;
    }
}

fn refused(refusal: Result<impl std::fmt::Debug, Status>, field: &str) {
    let refusal = refusal.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument, "{refusal}");
    assert!(refusal.message().contains(&format!("`{field}`")), "{field}: {refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_has_no_key_of_the_artifact_store() {
    let world = World::begin().await;
    let attempt = Attempt::begin(&world).await;
    for process in processes::of_job(&attempt.job) {
        let environment = std::fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment);
        assert!(!environment.contains("SLIPWAY_S3"), "{environment}");
    }
    attempt.end(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_stores_under_its_own_uploads_only() {
    let world = World::begin().await;
    let (attempt, other) = (Attempt::begin(&world).await, Attempt::begin(&world).await);
    let own = attempt.prefix(5, "u");
    let url = attempt.begin_upload(&own, "5/w", 2).await.unwrap().url;
    assert_eq!(attempt.put(&url, "ok").await, StatusCode::OK);
    assert_eq!(world.store().get_bytes(&format!("{own}/5/w"), 10).await.unwrap(), "ok");
    // The URL is for this object and this method.
    let elsewhere = url.replacen("/5/w", "/5/x", 1);
    assert_eq!(attempt.put(&elsewhere, "no").await, StatusCode::FORBIDDEN);
    assert_eq!(attempt.http.delete(&url).send().await.unwrap().status(), StatusCode::FORBIDDEN);

    for prefix in [
        &other.prefix(5, "u"),
        &own.replace("/1-", "/2-"),
        "models/x",
        "",
        &format!("{own}/.."),
        &own.replace("/1-u", "/1-u/../../../../models/1-u"),
    ] {
        refused(attempt.begin_upload(prefix, "5/w", 2).await, "prefix");
        refused(attempt.discard(prefix).await, "prefix");
    }
    for path in ["", "../w", "a/../../w", "/w", "MANIFEST.json"] {
        refused(attempt.begin_upload(&own, path, 2).await, "files[0].path");
    }
    refused(attempt.begin_upload(&own, "w", u64::MAX).await, "files[0].size_bytes");
    let mut stranger = Attempt { token: other.token.clone(), ..attempt };
    let fenced = stranger.begin_upload(&own, "5/w", 2).await.unwrap_err();
    assert_eq!(fenced.code(), Code::FailedPrecondition, "another job's token: {fenced}");
    stranger.token.clear();
    stranger.end(&world).await;
    other.end(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_committed_only_where_all_of_it_is_stored() {
    let world = World::begin().await;
    let attempt = Attempt::begin(&world).await;
    let prefix = attempt.prefix(5, "u");
    let manifest = attempt.manifest(5, &prefix, "weights");
    refused(attempt.commit(&manifest).await, "manifest_json");
    let url = attempt.begin_upload(&prefix, "5/w", 4).await.unwrap().url;
    assert_eq!(attempt.put(&url, "half").await, StatusCode::OK);
    refused(attempt.commit(&manifest).await, "manifest_json");
    assert_eq!(
        world.store().size_bytes(&manifest.key()).await.unwrap(),
        None,
        "nothing says that it is whole"
    );
    assert_eq!(world.job(&attempt.job).await["checkpoint_step"], json!(null));

    let url = attempt.begin_upload(&prefix, "5/w", 7).await.unwrap().url;
    assert_eq!(attempt.put(&url, "weights").await, StatusCode::OK);
    attempt.commit(&manifest).await.unwrap();
    attempt.commit(&manifest).await.unwrap();
    assert_eq!(world.job(&attempt.job).await["checkpoint_step"], 5);
    refused(attempt.discard(&prefix).await, "prefix");

    let url = attempt.downloads(&prefix, "5/w").await.unwrap();
    let answer = attempt.http.get(&url).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "weights");
    refused(attempt.downloads(&prefix, "MANIFEST.json").await, "paths[0]");
    refused(attempt.downloads(&attempt.prefix(5, "v"), "5/w").await, "prefix");
    attempt.end(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upload_left_is_deleted_when_it_is_discarded() {
    let world = World::begin().await;
    let attempt = Attempt::begin(&world).await;
    let prefix = attempt.prefix(5, "u");
    let whole = attempt.begin_upload(&prefix, "5/w", 7).await.unwrap();
    assert_eq!(attempt.put(&whole.url, "weights").await, StatusCode::OK);
    let parts = attempt.begin_upload(&prefix, "5/large", 40 * MIB).await.unwrap();
    assert_eq!((parts.url.as_str(), parts.part_bytes), ("", 16 * MIB));
    let sign = |first_part, count| SignPartsRequest {
        job_id: attempt.job.clone(),
        attempt: 1,
        token: attempt.token.clone(),
        prefix: prefix.clone(),
        path: "5/large".to_owned(),
        upload_id: parts.upload_id.clone(),
        first_part,
        count,
    };
    let mut agents = attempt.agents.clone();
    let urls = agents.sign_parts(sign(2, 2)).await.unwrap().into_inner().urls;
    assert_eq!(urls.len(), 2);
    assert!(urls[0].contains("partNumber=2") && urls[1].contains("partNumber=3"), "{urls:?}");
    assert_eq!(attempt.put(&urls[0], "part").await, StatusCode::OK);
    for (first_part, count, field) in
        [(0, 1, "first_part"), (1, 0, "count"), (1, 65, "count"), (9_990, 20, "first_part")]
    {
        refused(agents.sign_parts(sign(first_part, count)).await, field);
    }

    attempt.discard(&prefix).await.unwrap();
    let left = world.store().list(&format!("checkpoints/{}/", attempt.job), 10).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(attempt.put(&urls[1], "late").await, StatusCode::NOT_FOUND, "the upload in parts is gone");
    assert_eq!(world.request(Method::GET, "/readyz", String::new()).await.status(), StatusCode::OK);
    attempt.end(&world).await;
}
