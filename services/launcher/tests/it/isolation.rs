//! What a job may see and touch of the platform that runs it, and other accounts of the job.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::{User, geteuid};
use serde_json::json;

use crate::world::{JOB_TOKEN, World};

/// An account of every Debian, Alpine and Fedora that is not root's, and no shared one of the launcher's
/// list.
const ACCOUNT: &str = "daemon";

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_inherits_an_allow_list_of_the_launchers_environment() {
    let secrets =
        ["AWS_SECRET_ACCESS_KEY", "DATABASE_URL", "GITHUB_TOKEN", "SLIPWAY_ADMIN_TOKEN", "SLIPWAY_TOKEN"];
    let world = World::with(|_| {
        let secret = |name: &&'static str| (*name, "the-owners-secret".to_owned());
        let mut more: Vec<_> = secrets.iter().map(secret).collect();
        more.extend([
            ("SLIPWAY_JOB_ENVIRONMENT", "HF_HOME,NCCL_*,SLIPWAY_ADMIN_TOKEN".to_owned()),
            ("HF_HOME", "/models".to_owned()),
            ("NCCL_DEBUG", "WARN".to_owned()),
            ("LC_TIME", "C".to_owned()),
            ("MLFLOW_TRACKING_PASSWORD", "the-owners-secret".to_owned()),
        ]);
        more
    })
    .await;
    // Also what the agent has in its hands, and what its own process was started with.
    let script = "env; echo --; ls /proc/self/fd; echo --; cat script.sh; true";
    let body = json!({"env": {"OF_THE_JOB": "1"}, "files": {"script.sh": "the file\n"}});
    let job = world.submit_script(script, body).await;
    world.ended(&job, "succeeded").await;
    let log = world.log(&job, "").await;
    let (environment, rest) = log.split_once("\n--\n").unwrap();
    assert!(!environment.contains("the-owners-secret"), "{environment}");
    let names: Vec<&str> = environment.lines().filter_map(|line| line.split('=').next()).collect();
    for name in
        ["PATH", "LC_TIME", "HF_HOME", "NCCL_DEBUG", "OF_THE_JOB", "SLIPWAY_JOB_ID", "CUDA_VISIBLE_DEVICES"]
    {
        assert!(names.contains(&name), "{name}: {environment}");
    }
    let own = ["SLIPWAY_JOB_ID", "SLIPWAY_JOB_NAME", "SLIPWAY_ATTEMPT"];
    let foreign: Vec<_> =
        names.iter().filter(|name| name.starts_with("SLIPWAY_") && !own.contains(name)).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    assert!(environment.contains(&format!("MLFLOW_TRACKING_TOKEN={JOB_TOKEN}")), "{environment}");
    let (descriptors, _) = rest.split_once("\n--\n").unwrap();
    // Input, output, error, and the folder that `ls` reads.
    assert_eq!(descriptors.lines().count(), 4, "{descriptors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_and_work_folders_are_their_owners_alone() {
    let world = World::begin().await;
    let job = world.submit_script("echo said; umask; mkdir made; sleep 300", json!({})).await;
    world.wait_for_log(&job, "said").await;
    let logs = world.data_dir.join("logs");
    let work = world.data_dir.join("work");
    let attempt = work.join(&job).join("1");
    for folder in [&world.data_dir, &logs, &logs.join(&job), &work, &work.join(&job), &attempt] {
        assert_eq!(mode(folder), 0o700, "{}", folder.display());
    }
    assert_eq!(mode(&attempt.with_extension("agent")), 0o700);
    for log in [logs.join(&job).join("1.agent.log"), attempt.with_extension("agent").join("log")] {
        assert_eq!(mode(&log), 0o600, "{}", log.display());
    }
    assert!(world.log(&job, "").await.contains("\n0022\n"), "what the command makes is as elsewhere");
    world.cancel(&job).await;
    world.ended(&job, "cancelled").await;
}

#[expect(clippy::too_many_lines, reason = "one story, told from its beginning to its end")]
#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_launcher_that_is_root_run_as_another_account_and_see_nothing_of_it() {
    if !geteuid().is_root() {
        eprintln!("skipped: only root can run jobs as another account");
        return;
    }
    let Some(account) = User::from_name(ACCOUNT).unwrap() else {
        eprintln!("skipped: this machine has no account {ACCOUNT}");
        return;
    };
    let world = World::with(|folder| {
        let jobs = folder.join("jobs").display().to_string();
        vec![("SLIPWAY_JOB_USER", ACCOUNT.to_owned()), ("SLIPWAY_JOBS_DIR", jobs)]
    })
    .await;
    let secret = world.data_dir.join("secret");
    std::fs::write(&secret, "the platform's").unwrap();
    std::fs::create_dir_all(world.data_dir.join("logs/other")).unwrap();
    std::fs::write(world.data_dir.join("logs/other/1.log"), "another job's").unwrap();
    let tried = [
        "cat /proc/$PPID/environ",
        "cat /proc/$(awk '/PPid/{print $2}' /proc/$PPID/status)/environ",
        "cat $DATA_DIR/secret",
        "ls $DATA_DIR",
        "cat $DATA_DIR/logs/other/1.log",
        "ls $DATA_DIR/../jobs",
        "touch $DATA_DIR/../jobs/x",
        "cat /proc/$PPID/mem",
        "ls /proc/$PPID/fd",
        "su -c true",
        "chown root made",
    ];
    let attempts: Vec<String> = tried
        .iter()
        .map(|command| format!("({command}) >/dev/null 2>&1 && echo \"PASSED {command}\""))
        .collect();
    let script = format!(
        "id -u; id -g; id -G; echo $HOME; pwd; echo $USER; touch made; {}; \
         mkdir $SLIPWAY_CHECKPOINT_DIR/7.tmp; echo weights > $SLIPWAY_CHECKPOINT_DIR/7.tmp/w; \
         mv $SLIPWAY_CHECKPOINT_DIR/7.tmp $SLIPWAY_CHECKPOINT_DIR/7; echo waiting > /dev/stderr; sleep 300",
        attempts.join("; ")
    );
    let body = json!({
        "env": {"DATA_DIR": world.data_dir}, "files": {"in/data.txt": "x"}, "checkpoint": {},
        "retries": {"limit": 0, "backoff_initial_ms": 100, "backoff_max_ms": 100},
    });
    let job = world.submit_script(&script, body).await;
    world.wait(&job, "a checkpoint", |job| job["checkpoint_step"] == 7).await;
    world.wait_for_log(&job, "waiting").await;
    let log = world.log(&job, "").await;
    assert!(!log.contains("PASSED"), "{log}");
    let lines: Vec<&str> = log.lines().collect();
    let work = world.data_dir.parent().unwrap().join("jobs").join(&job).join("1");
    let (uid, gid) = (account.uid.to_string(), account.gid.to_string());
    assert_eq!(lines[..3], [&uid, &gid, &gid], "no groups of root's: {log}");
    assert_eq!(lines[3..6], [&work.display().to_string(), &work.display().to_string(), ACCOUNT], "{log}");
    for path in [work.clone(), work.join("made"), work.join("in/data.txt"), work.parent().unwrap().to_owned()]
    {
        assert_eq!(std::fs::metadata(&path).unwrap().uid(), account.uid.as_raw(), "{}", path.display());
    }
    assert_eq!((mode(&work), mode(work.parent().unwrap())), (0o700, 0o700));
    let stored = world.data_dir.join("logs").join(&job).join("1.agent.log");
    let found = std::fs::metadata(&stored).unwrap();
    assert_eq!((found.uid(), found.mode() & 0o777), (0, 0o600));

    // A launcher that is started again still finds and ends it.
    world.kill_launcher();
    world.start_launcher().await;
    world.cancel(&job).await;
    world.ended(&job, "cancelled").await;
    world.wait_for_no_process(&job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_checkpoint_belongs_to_the_account_of_jobs() {
    if !geteuid().is_root() || User::from_name(ACCOUNT).unwrap().is_none() {
        eprintln!("skipped: only root can run jobs as another account, here {ACCOUNT}");
        return;
    }
    let world = World::with(|folder| {
        let jobs = folder.join("jobs").display().to_string();
        vec![("SLIPWAY_JOB_USER", ACCOUNT.to_owned()), ("SLIPWAY_JOBS_DIR", jobs)]
    })
    .await;
    // The second attempt changes what was restored.
    let script = "cd $SLIPWAY_CHECKPOINT_DIR; if [ -n \"$SLIPWAY_RESTORED_STEP\" ]; then \
                  stat -c %u $SLIPWAY_RESTORED_STEP/w; echo more >> $SLIPWAY_RESTORED_STEP/w; exit $?; fi; \
                  mkdir 1.tmp; echo one > 1.tmp/w; mv 1.tmp 1; sleep 300";
    let retries = json!({"limit": 0, "backoff_initial_ms": 100, "backoff_max_ms": 100});
    let job = world.submit_script(script, json!({"checkpoint": {}, "retries": retries})).await;
    world.wait(&job, "a checkpoint", |job| job["checkpoint_step"] == 1).await;
    crate::processes::kill_all(&job);
    world.ended(&job, "succeeded").await;
    let uid = User::from_name(ACCOUNT).unwrap().unwrap().uid.to_string();
    assert!(world.log(&job, "").await.lines().any(|line| line == uid), "{}", world.log(&job, "").await);
}

/// Makes `home/tools/bin/greet`, `home/tools/notes` and `home/notes`, all readable by anybody, in a home that
/// is closed to others.
fn closed_home(home: &Path) -> std::path::PathBuf {
    let programs = home.join("tools/bin");
    std::fs::create_dir_all(&programs).unwrap();
    std::fs::write(programs.join("greet"), "#!/bin/sh\necho hello\n").unwrap();
    std::fs::write(home.join("tools/notes"), "the owner's").unwrap();
    std::fs::write(home.join("notes"), "the owner's").unwrap();
    for (path, mode) in [(programs.join("greet"), 0o755), (home.to_owned(), 0o700)] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
    programs
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_programs_of_the_path_in_a_closed_home_and_sees_nothing_else_there() {
    if !geteuid().is_root() || User::from_name(ACCOUNT).unwrap().is_none() {
        eprintln!("skipped: only root can run jobs as another account, here {ACCOUNT}");
        return;
    }
    let world = World::with(|folder| {
        let programs = closed_home(&folder.join("home"));
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let jobs = folder.join("jobs").display().to_string();
        vec![("SLIPWAY_JOB_USER", ACCOUNT.to_owned()), ("SLIPWAY_JOBS_DIR", jobs), ("PATH", path)]
    })
    .await;
    let home = world.data_dir.with_file_name("home");
    let script =
        "greet; ls $OWNER; cat $OWNER/notes $OWNER/tools/notes; touch $OWNER/tools/bin/made; echo done";
    let job = world.submit_script(script, json!({"env": {"OWNER": home}})).await;
    world.ended(&job, "succeeded").await;
    let log = world.log(&job, "").await;
    assert!(log.contains("hello\n") && log.contains("done"), "{log}");
    assert!(!log.contains("the owner's") && !home.join("tools/bin/made").exists(), "{log}");
    // The submitter cannot choose what is shown.
    let body = json!({"name": "reads", "command": ["cat", "notes"],
        "env": {"PATH": format!("{}:/usr/bin:/bin", home.display()), "OWNER": home}});
    let job = world.submit(body).await;
    world.ended(&job, "failed").await;
    assert!(home.join("notes").exists(), "the home itself is as it was");
}
