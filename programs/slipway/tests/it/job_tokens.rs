//! On a platform with access on, a job has a token of its own, and no part but the registry has the
//! administrator's.

use serde_json::{Value, json};

use crate::platform::{Platform, wait_for};

fn environment(pid: i32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    String::from_utf8_lossy(&bytes).replace('\0', "\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_has_a_token_of_its_own_until_it_ends() {
    let platform = Platform::start(&["--auth", "on"]);
    let admin = std::fs::read_to_string(platform.data_dir().join("admin-token")).unwrap().trim().to_owned();
    for part in ["launcher", "serving", "rollout_controller", "drift_monitor"] {
        assert!(!environment(platform.pid(part)).contains(&admin), "{part} has the administrator's token");
    }
    let script = "echo \"uid $(id -u).\"; echo \"token $MLFLOW_TRACKING_TOKEN.\"; sleep 300";
    let job = platform.file("job.json", &json!({"name": "long", "command": ["sh", "-c", script]}));
    let id = platform.json(&["jobs", "submit", &job])["id"].as_str().unwrap().to_owned();
    let logs = || platform.slipway(&["jobs", "logs", &id]).text();
    wait_for("the job to say its token", || logs().contains("token slp_"));
    let uid: u32 = logs().split("uid ").nth(1).unwrap().split('.').next().unwrap().parse().unwrap();
    if nix::unistd::geteuid().is_root() {
        let servers = nix::unistd::User::from_name("slipway").unwrap().map(|user| user.uid.as_raw());
        assert!(uid != 0 && uid < 65_534 && Some(uid) != servers, "jobs run as uid {uid}");
    }
    let token = logs().split("token ").nth(1).unwrap().split('.').next().unwrap().to_owned();
    assert_ne!(token, admin);
    let registry = platform.endpoint("registry");
    slipway_runtime::install_tls_provider();
    let http = reqwest::Client::new();
    let me = || http.get(format!("{registry}/api/v1/me")).bearer_auth(&token).send();
    let answer: Value = me().await.unwrap().json().await.unwrap();
    assert_eq!(answer["principal"], format!("job:{id}"), "{answer}");
    let refused = http.get(format!("{registry}/api/v1/tokens")).bearer_auth(&token).send().await.unwrap();
    assert_eq!(refused.status(), 403);
    platform.slipway(&["jobs", "cancel", &id]).success();
    let mut last = 0;
    for _ in 0..600 {
        last = me().await.unwrap().status().as_u16();
        if last == 401 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the token of a job that has ended is answered with {last}");
}
