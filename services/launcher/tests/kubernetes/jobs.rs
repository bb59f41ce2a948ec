//! Jobs from submission to their end.

use serde_json::{Value, json};
use slipway_kubernetes_testkit::NODE_ADDRESS;
use tokio::net::TcpListener;

use crate::account::ROLE;
use crate::world::{on_a_cluster, with_role};

#[test]
fn a_command_runs_in_its_image_and_needs_nothing_of_ours() {
    on_a_cluster(async |world| {
        world.kubectl(&["create", "configmap", "site", "--from-literal=REGION=north"]);
        let kubernetes = json!({"env_from": [{"config_map": "site"}],
            "volumes": [{"mount_path": "/scratch", "empty_dir": {}}]});
        let script = "echo $GREETING from $REGION as $(id -u); touch /scratch/x && cat note; env";
        let job = json!({"env": {"GREETING": "hello"}, "files": {"note": "a file of the job\n"}});
        let id = world.submit(script, job, kubernetes).await;
        let ended = world.launcher.ended(&id, "succeeded").await;
        assert_eq!((&ended["attempt"], &ended["disruptions"]), (&json!(1), &json!(0)), "{ended:#}");
        let log = world.launcher.log(&id, "").await;
        assert!(log.starts_with("hello from north as 65532\na file of the job\n"), "{log}");
        assert!(!log.contains("TOKEN=") || log.contains("MLFLOW_TRACKING_TOKEN="), "{log}");
        assert!(!log.contains("SLIPWAY_ATTEMPT_TOKEN"), "the agent keeps its token: {log}");

        let objects = world.objects(&id, "jobs,secrets");
        assert_eq!(
            objects.len(),
            2,
            "{objects:?}\n{}",
            world.kubectl(&["get", "secrets,jobs", "--output", "yaml"])
        );
        let owner =
            world.kubectl(&["get", &objects[1], "--output", "jsonpath={.metadata.ownerReferences[0].kind}"]);
        assert_eq!(owner, "Job");
        let manifest = world.kubectl(&["get", &objects[0], "--output", "json"]);
        assert!(!manifest.contains(crate::launcher::JOB_TOKEN), "no secret is in the Job");
        world.kubectl(&["delete", &objects[0], "--wait=true"]);
        let gone = async || world.objects(&id, "jobs,secrets,pods").is_empty().then_some(());
        world.launcher.eventually("nothing is left", gone).await;
    });
}

#[test]
fn a_job_that_cannot_start_says_why_and_starts_when_it_can() {
    on_a_cluster(async |world| {
        let entry = json!({"env_refs": {"KEY": {"secret": "wandb", "key": "key"}}});
        let id = world.submit("echo key=$KEY", json!({}), entry).await;
        world.pending(&id, "secret \"wandb\" not found").await;
        world.kubectl(&["create", "secret", "generic", "wandb", "--from-literal=key=k1"]);
        world.launcher.ended(&id, "succeeded").await;
        assert!(world.launcher.log(&id, "").await.contains("key=k1"));
    });
}

#[test]
fn a_job_waits_for_gpus_in_the_words_of_the_scheduler() {
    on_a_cluster(async |world| {
        let id = world.submit("echo trained", json!({"resources": {"gpus": 1}}), json!({})).await;
        world.pending(&id, "Insufficient nvidia.com/gpu").await;
        world.offer("nvidia.com/gpu", 1);
        world.launcher.ended(&id, "succeeded").await;
    });
}

#[test]
fn an_image_that_cannot_be_pulled_is_named_and_the_job_can_be_cancelled() {
    on_a_cluster(async |world| {
        let id = world
            .submit(
                "true",
                json!({}),
                json!({"image": "registry.local/absent:1",
            "image_pull_policy": "Never"}),
            )
            .await;
        world.pending(&id, "registry.local/absent:1").await;
        world.launcher.cancel(&id).await;
        world.launcher.ended(&id, "cancelled").await;
        let gone = async || world.objects(&id, "jobs,pods,secrets").is_empty().then_some(());
        world.launcher.eventually("nothing is left", gone).await;
    });
}

#[test]
fn a_pod_that_is_deleted_costs_no_retry_and_its_job_resumes_from_its_checkpoint() {
    on_a_cluster(async |world| {
        let script = "mkdir -p checkpoints; echo restored=$SLIPWAY_RESTORED_STEP; \
            if [ -z \"$SLIPWAY_RESTORED_STEP\" ]; then \
              echo 7 > checkpoints/7.tmp && mv checkpoints/7.tmp checkpoints/7; echo saved; sleep 600; \
            fi; cat checkpoints/7";
        let retries = json!({"limit": 0, "backoff_initial_ms": 100, "backoff_max_ms": 100});
        let job = json!({"checkpoint": {}, "retries": retries, "grace_period_s": 1});
        let id = world.submit(script, job, json!({})).await;
        world.launcher.wait(&id, "a checkpoint", |job| job["checkpoint_step"] == 7).await;
        let pods = world.objects(&id, "pods");
        world.kubectl(&["delete", &pods[0], "--wait=false"]);
        let ended = world.launcher.ended(&id, "succeeded").await;
        assert_eq!(
            (&ended["attempt"], &ended["disruptions"], &ended["failures"]),
            (&json!(2), &json!(1), &json!(0)),
            "{ended:#}"
        );
        let log = world.launcher.log(&id, "attempt=2").await;
        assert!(log.contains("restored=7\n7\n"), "{log}");
    });
}

#[test]
fn jobs_go_on_while_their_launcher_is_killed() {
    on_a_cluster(async |world| {
        let gate = TcpListener::bind((NODE_ADDRESS, 0)).await.unwrap();
        let port = gate.local_addr().unwrap().port();
        drop(gate);
        let script = format!("echo ready; until nc {NODE_ADDRESS} {port} < /dev/null; do sleep 0.2; done");
        let id = world.submit(&script, json!({}), json!({})).await;
        world.launcher.wait_for_log(&id, "ready").await;
        world.launcher.kill_launcher();
        world.launcher.start_launcher().await;
        let gate = TcpListener::bind((NODE_ADDRESS, port)).await.unwrap();
        drop(gate.accept().await.unwrap());
        let ended = world.launcher.ended(&id, "succeeded").await;
        assert_eq!(ended["attempt"], 1, "{ended:#}");
        assert_eq!(world.objects(&id, "jobs").len(), 1);
    });
}

#[test]
fn what_the_cluster_cannot_have_is_refused_with_the_field() {
    on_a_cluster(async |world| {
        let refusals = [
            (json!({"namespace": "kube-system"}), "kubernetes.namespace"),
            (json!({"gpu_type": "b300"}), "kubernetes.gpu_type"),
            (json!({"tolerations": [{"key": 7}]}), "kubernetes.tolerations[0]"),
            (json!({"replicas": {"server": 2}}), "kubernetes.replicas.server"),
            (json!({"image": ""}), "kubernetes.image"),
        ];
        for (section, field) in refusals {
            let mut kubernetes = json!({"image": "train:1"});
            kubernetes.as_object_mut().unwrap().extend(section.as_object().unwrap().clone());
            let body = json!({"name": "x", "command": ["true"], "kubernetes": kubernetes});
            let (status, answer) = world.launcher.try_submit(None, &body).await;
            assert_eq!(status, 400, "{answer}");
            let text: &Value = &answer["detail"];
            assert!(text.as_str().unwrap_or_default().contains(field), "{field}: {answer}");
        }
        let local = json!({"name": "x", "command": ["true"]});
        let (status, answer) = world.launcher.try_submit(None, &local).await;
        assert_eq!(
            (status.as_u16(), answer["detail"].to_string().contains("kubernetes.image")),
            (400, true),
            "{answer}"
        );
    });
}

#[test]
fn a_permission_that_is_missing_is_named() {
    let role = ROLE.replace("[secrets, services]", "[services]");
    assert_ne!(role, ROLE);
    with_role(&role, async |world| {
        let id = world.submit("true", json!({}), json!({})).await;
        let ended = world.launcher.ended(&id, "failed").await;
        let reason = ended["reason"].as_str().unwrap();
        assert!(reason.contains("cannot patch resource \"secrets\""), "{reason}");
        let gone = async || world.objects(&id, "jobs,pods").is_empty().then_some(());
        world.launcher.eventually("nothing is left", gone).await;
    });
}
