//! TrainingJobs: jobs as objects of the cluster.

use serde_json::{Value, json};
use slipway_kubernetes_testkit::BUSYBOX_IMAGE;

use crate::world::{World, with_training_jobs};

const LIMIT: &str = "--timeout=120s";

/// A manifest that runs a script in BusyBox, with further fields of its spec.
fn manifest(name: &str, script: &str, further: &Value) -> Value {
    let mut spec = json!({"image": BUSYBOX_IMAGE, "command": ["sh", "-c", script]});
    spec.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
    json!({"apiVersion": "slipway.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": name},
        "spec": spec})
}

fn refused(world: &World, manifest: &Value) -> String {
    tokio::task::block_in_place(|| world.namespace.apply(&manifest.to_string()).unwrap_err().to_string())
}

fn found(world: &World, name: &str) -> Value {
    serde_json::from_str(&world.kubectl(&["get", "trainingjob", name, "--output", "json"])).unwrap()
}

async fn until(world: &World, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let read = async || {
        let object = found(world, name);
        holds(&object["status"]).then_some(object)
    };
    world.launcher.eventually(what, read).await
}

#[test]
fn an_object_is_a_job_that_kubectl_can_wait_for() {
    with_training_jobs(async |world| {
        let script = "mkdir -p checkpoints; echo 7 > checkpoints/7.tmp; mv checkpoints/7.tmp checkpoints/7; \
            echo $GREETING; sleep 1";
        let further = json!({"env": {"GREETING": "hello"}, "checkpoint": {"keep": 2, "totalSteps": 70},
            "resources": {"cpus": 0.1, "memory": "64Mi"}, "podLabels": {"team": "vision"}});
        world.apply(&manifest("train", script, &further));
        world.kubectl(&["wait", "trainingjob/train", "--for=condition=Complete", LIMIT]);
        let object = until(&world, "train", "it is let go", |status| status["phase"] == "Succeeded").await;
        let status = &object["status"];
        assert_eq!((&status["attempt"], &status["step"]), (&json!(1), &json!(7)), "{status:#}");
        assert_eq!(status["attempts"].as_array().unwrap().len(), 1, "{status:#}");
        assert_eq!(status["observedGeneration"], object["metadata"]["generation"]);
        let id = status["jobId"].as_str().unwrap();
        let job = world.launcher.job(id).await;
        assert_eq!(job["spec"]["resources"]["memory_bytes"], 64 << 20, "{job:#}");
        assert_eq!(job["spec"]["kubernetes"]["namespace"], world.namespace.name());
        assert!(world.launcher.log(id, "").await.contains("hello"));
        let table = world.kubectl(&["get", "tj"]);
        let columns: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(columns, ["NAME", "PHASE", "ATTEMPT", "STEP", "PROGRESS", "AGE"], "{table}");
        // An object whose job has ended can be deleted without a launcher.
        let free = async || finalizers(&world, "train").is_empty().then_some(());
        world.launcher.eventually("no finalizer", free).await;
        world.launcher.kill_launcher();
        world.kubectl(&["delete", "trainingjob", "train", LIMIT]);
    });
}

fn finalizers(world: &World, name: &str) -> String {
    world.kubectl(&["get", "trainingjob", name, "--output", "jsonpath={.metadata.finalizers}"])
}

#[test]
fn deleting_an_object_cancels_its_job_and_leaves_nothing() {
    with_training_jobs(async |world| {
        world.apply(&manifest("train", "sleep 600", &json!({"gracePeriodSeconds": 1})));
        let object = until(&world, "train", "it runs", |status| status["phase"] == "Running").await;
        let id = object["status"]["jobId"].as_str().unwrap().to_owned();
        world.kubectl(&["delete", "trainingjob", "train", LIMIT]);
        let job = world.launcher.job(&id).await;
        assert_eq!(job["status"], "cancelled", "{job:#}");
        let gone = async || world.objects(&id, "pods").is_empty().then_some(());
        world.launcher.eventually("no pod is left", gone).await;

        // The same name is another object, and another job.
        world.apply(&manifest("train", "true", &json!({})));
        world.kubectl(&["wait", "tj/train", "--for=condition=Complete", LIMIT]);
        assert_ne!(found(&world, "train")["status"]["jobId"], json!(id));
    });
}

#[test]
fn what_is_wrong_is_refused_with_the_field() {
    with_training_jobs(async |world| {
        for (further, expected) in [
            (json!({"env": {"SLIPWAY_X": "1"}}), "names that begin with SLIPWAY_ are reserved"),
            (json!({"resources": {"gpus": -1}}), "spec.resources.gpus"),
            (json!({"resources": {"memory": "8GB"}}), "spec.resources.memory"),
            (json!({"image": ""}), "spec.image"),
            (json!({"command": []}), "spec.command"),
            (json!({"timeoutSeconds": 0}), "expected more than 0 seconds"),
            (json!({"replicas": {"server": 2}}), "expected the roles chief"),
            (json!({"checkpoint": {"sharded": true}}), "expected a distributed job"),
            (json!({"resources": {"gpus": 1}, "gpuClaimTemplate": "t"}), "only one of them"),
            (json!({"volumes": [{"mountPath": "/d", "claim": "a", "secret": "b"}]}), "exactly one of claim"),
            (json!({"nodeSelectors": {}}), "nodeSelectors"),
        ] {
            let message = refused(&world, &manifest("wrong", "true", &further));
            assert!(message.contains(expected), "{further}: {message}");
        }

        // What only the launcher knows is in the status, and can be corrected.
        world.apply(&manifest("train", "sleep 600", &json!({"gpuType": "b300"})));
        let is_refused = |status: &Value| status["phase"] == "Refused";
        let object = until(&world, "train", "it is refused", is_refused).await;
        let accepted = &object["status"]["conditions"][0];
        assert_eq!((&accepted["type"], &accepted["status"]), (&json!("Accepted"), &json!("False")));
        let message = accepted["message"].as_str().unwrap();
        assert!(message.starts_with("spec.gpuType: ") && message.contains("b300"), "{message}");
        let path = "[{\"op\": \"remove\", \"path\": \"/spec/gpuType\"}]";
        world.kubectl(&["patch", "tj", "train", "--type=json", "--patch", path]);
        until(&world, "train", "it runs", |status| status["phase"] == "Running").await;

        // From then on it stays as it is.
        let message = refused(&world, &manifest("train", "true", &json!({})));
        assert!(message.contains("cannot be changed"), "{message}");
        world.kubectl(&["delete", "tj", "train", LIMIT]);
    });
}

#[test]
fn an_object_is_suspended_and_resumed_and_a_killed_launcher_submits_it_once() {
    with_training_jobs(async |world| {
        let suspend = |suspended: bool| {
            let patch = json!({"spec": {"suspend": suspended}}).to_string();
            world.kubectl(&["patch", "tj", "train", "--type=merge", "--patch", &patch]);
        };
        let script = "if [ -e checkpoints/3 ]; then exit 0; fi; mkdir -p checkpoints; \
            echo 3 > checkpoints/3.tmp; mv checkpoints/3.tmp checkpoints/3; sleep 600";
        let further = json!({"suspend": true, "checkpoint": {"totalSteps": 10}, "gracePeriodSeconds": 1});
        world.apply(&manifest("train", script, &further));
        let object = until(&world, "train", "suspended", |status| status["phase"] == "Suspended").await;
        assert_eq!(object["status"]["jobId"], Value::Null, "nothing was submitted");

        suspend(false);
        world.launcher.kill_launcher();
        world.launcher.start_launcher().await;
        until(&world, "train", "a checkpoint", |status| status["progress"] == "30%").await;
        suspend(true);
        world.kubectl(&["wait", "tj/train", "--for=condition=Suspended", LIMIT]);
        suspend(false);
        world.kubectl(&["wait", "tj/train", "--for=condition=Complete", LIMIT]);
        let jobs = world.launcher.get("/api/v1/jobs").await;
        assert_eq!(jobs["jobs"].as_array().unwrap().len(), 1, "{jobs:#}");
        let attempts = &found(&world, "train")["status"]["attempts"];
        assert_eq!(attempts[1]["restoredStep"], 3, "{attempts:#}");
    });
}
