//! The `curl` commands of docs/api.md, against a platform.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::client::Client;
use crate::platform::Platform;

const PAGE: &str = "docs/api.md";
/// In front of each command: a response other than 2xx ends the script. A stream that has begun ends with the
/// time limit.
const PRELUDE: &str = r#"
curl() {
  status=$(command curl -sS -o "$ANSWER" -w '%{http_code}' --max-time 5 "$@") || [ $? -eq 28 ]
  case $status in
    2*) ;;
    *) echo "HTTP status $status: $(cat "$ANSWER")" >&2; exit 1;;
  esac
}
"#;

/// A command and the line of the page that it begins in.
struct Documented {
    line: usize,
    command: String,
}

/// Commands of the page: blocks of `sh`, and of `console` the lines with a prompt. A line that ends in `\`,
/// or within quotes, continues.
fn documented(page: &str) -> Vec<Documented> {
    let mut found = Vec::new();
    let (mut block, mut open) = (None::<&str>, None::<Documented>);
    for (index, line) in page.lines().enumerate() {
        if let Some(kind) = line.strip_prefix("```") {
            block = block.is_none().then_some(kind);
            continue;
        }
        if let Some(begun) = &mut open {
            begun.command += "\n";
            begun.command += line;
        } else {
            let command = match block {
                Some("sh") => Some(line),
                Some("console") => line.strip_prefix("$ "),
                _ => None,
            };
            let command = command.filter(|command| command.starts_with("curl "));
            open = command.map(|command| Documented { line: index + 1, command: command.to_owned() });
        }
        let is_complete = |begun: &Documented| {
            !begun.command.ends_with('\\') && begun.command.matches('\'').count().is_multiple_of(2)
        };
        found.extend(open.take_if(|begun| is_complete(begun)));
    }
    found
}

/// What the page names by example, as it is on this platform.
fn adapted(command: &str, client: &Client, ids: &[(&str, String)]) -> String {
    let mut command = command.to_owned();
    for (port, address) in [
        (5000, &client.registry),
        (5010, &client.launcher),
        (5020, &client.controller),
        (5030, &client.monitor),
        (8000, &client.serving),
    ] {
        for host in [format!("http://127.0.0.1:{port}"), format!("localhost:{port}")] {
            command = command.replace(&host, address);
        }
    }
    ids.iter().fold(command, |command, (example, id)| command.replace(example, id))
}

impl Client {
    async fn logged_run(&self) -> String {
        let run = self.mlflow("runs/create", json!({"experiment_id": "0", "start_time": 1})).await;
        let run = run["run"]["info"]["run_id"].as_str().unwrap().to_owned();
        for key in ["loss", "accuracy"] {
            let point = json!({"run_id": run, "key": key, "value": 0.5, "timestamp": 1, "step": 1});
            self.mlflow("runs/log-metric", point).await;
        }
        run
    }

    async fn logged_job(&self) -> String {
        let job = json!({"name": "train", "command": ["seq", "4000"]});
        let jobs = format!("{}/api/v1/jobs", self.launcher);
        let id = self.post(&jobs, job).await["id"].as_str().unwrap().to_owned();
        for _ in 0..600 {
            if self.get(&format!("{jobs}/{id}")).await["finished_at"].is_string() {
                return id;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("the job does not end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_curl_commands_of_the_api_page_succeed() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(PAGE);
    let commands = documented(&std::fs::read_to_string(page).unwrap());
    let platform = Platform::start(&[]);
    let client = Client::new(&platform);
    assert_eq!(client.register("churn", "right-1.onnx").await, "1");
    client.set_alias("churn", "champion", "1").await;
    let ids = [
        ("4c0f…", client.logged_run().await),
        ("91ab…", client.logged_run().await),
        ("01993f0c-5d1e-7c52-9d3a-2f6a0c0b7a11", client.logged_job().await),
    ];
    let answer = platform.data_dir().join("answer");
    for Documented { line, command } in &commands {
        let script = format!("{PRELUDE}{}", adapted(command, &client, &ids));
        let mut shell = Command::new("sh");
        shell.args(["-euc", &script]).env("ANSWER", &answer);
        let output = shell.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{PAGE}:{line}: {command}\n{errors}");
    }
    assert!(commands.len() >= 8, "the page has {} commands", commands.len());
    // What they made is there.
    let deployment = client.get(&format!("{}/api/v1/deployments/churn", client.controller)).await;
    assert_eq!(deployment["watch_alias"], "champion", "{deployment}");
    let monitor = client.get(&format!("{}/api/v1/monitors/churn-inputs", client.monitor)).await;
    assert_eq!(monitor["spec"]["window"]["rows"], 500, "{monitor}");
    let policy = client.get(&format!("{}/api/v1/models/churn/policies/champion", client.registry)).await;
    assert_eq!(policy["rules"].as_array().map(Vec::len), Some(5), "{policy}");
    let jobs: Value = client.get(&format!("{}/api/v1/jobs", client.launcher)).await;
    assert_eq!(jobs["jobs"].as_array().map(Vec::len), Some(2), "{jobs}");
}
