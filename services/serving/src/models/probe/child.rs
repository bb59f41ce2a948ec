//! The child: it gives up what it does not need, loads one model, and says how that went.

use std::io::Write as _;
use std::process::ExitCode;

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, geteuid, getppid};
use slipway_inference::{EmptyDimensions, Environment, Error, Model};

use super::job::{ARGUMENT, Answer, Job, Line};
use super::record::is_short_of_memory;

/// Exit code where the child was started by hand, or by a process that has ended.
const NOT_ASKED: u8 = 64;
/// The system kills this process first where memory is short (proc_pid_oom_score_adj(5)).
const FIRST_TO_DIE: &str = "1000";

/// Loads a model and ends, where this process is a child that was started for it; `None` elsewhere. A program
/// that runs serving calls it before anything else.
pub fn run_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != ARGUMENT {
        return None;
    }
    let job = arguments.next().and_then(|text| serde_json::from_str::<Job>(text.to_str()?).ok());
    Some(job.map_or(ExitCode::from(NOT_ASKED), |job| run(&job)))
}

fn run(job: &Job) -> ExitCode {
    if confine(job).is_err() {
        return ExitCode::from(NOT_ASKED);
    }
    match write(&Line::Answer(load(job))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_gone) => ExitCode::FAILURE,
    }
}

fn write(line: &Line) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(line)?;
    line.push(b'\n');
    let mut output = std::io::stdout();
    output.write_all(&line)?;
    output.flush()
}

/// Frees the model before the answer: what a load damaged often shows there.
fn load(job: &Job) -> Answer {
    let environment = if job.untested { Environment::load_untested } else { Environment::load };
    let loaded = environment(&job.library)
        .and_then(|environment| Model::load(&environment, &job.model, job.options()))
        .map(|model| match model.warm_up_failure().filter(|reason| is_short_of_memory(reason)) {
            // Other failures may be those of the inputs that were tried.
            Some(reason) => Err(reason.to_owned()),
            None => Ok(try_empty(&model, job)),
        });
    match loaded {
        Ok(Ok(survived)) => Answer::Loaded(survived),
        Ok(Err(reason)) => {
            Answer::Refused(format!("its first run takes more memory than there is: {reason}"))
        }
        Err(Error::Load(reason)) => Answer::Refused(reason),
        Err(error) => Answer::Refused(error.to_string()),
    }
}

/// Runs the model on inputs without elements. Each is announced, since some end this process.
fn try_empty(model: &Model, job: &Job) -> Vec<EmptyDimensions> {
    let mut survived = Vec::new();
    for (place, empty) in model.empty_candidates().iter().enumerate() {
        if job.skip_all || job.skipped.contains(&place) {
            continue;
        }
        if write(&Line::Trying(place)).is_err() {
            break;
        }
        model.try_empty(empty);
        survived.push(empty.clone());
    }
    survived
}

/// Limits this process. Nothing here needs a privilege, and what a system does not offer is left out, except
/// for the end with the parent.
fn confine(job: &Job) -> nix::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // It may have ended before.
    if getppid() != Pid::from_raw(job.parent.cast_signed()) {
        return Err(nix::errno::Errno::ESRCH);
    }
    let _ = std::fs::write("/proc/self/oom_score_adj", FIRST_TO_DIE);
    let _ = prctl::set_no_new_privs();
    let limits = [
        (Resource::RLIMIT_CORE, Some(0)),
        // A hang on several threads; the parent's clock ends all others.
        (Resource::RLIMIT_CPU, Some(job.timeout_s.saturating_mul(4))),
        (Resource::RLIMIT_DATA, job.memory_bytes),
    ];
    for (resource, limit) in limits {
        if let Some(limit) = limit {
            let _ = setrlimit(resource, limit, limit);
        }
    }
    if job.device == "cpu" {
        // Without a network, where the system lets a user give it up. Root keeps its own namespace of users,
        // so that it reads what it could.
        let user = if geteuid().is_root() { CloneFlags::empty() } else { CloneFlags::CLONE_NEWUSER };
        let _ = unshare(user | CloneFlags::CLONE_NEWNET);
    }
    Ok(())
}
