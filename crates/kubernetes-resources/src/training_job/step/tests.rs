use chrono::TimeDelta;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::Kind as _;
use crate::training_job::TrainingJobKind;

const STATUSES: [JobStatus; 10] = [
    JobStatus::Queued,
    JobStatus::Pending,
    JobStatus::Running,
    JobStatus::Retrying,
    JobStatus::Cancelling,
    JobStatus::Suspending,
    JobStatus::Suspended,
    JobStatus::Succeeded,
    JobStatus::Failed,
    JobStatus::Cancelled,
];

fn job(status: JobStatus) -> Job {
    serde_json::from_value(json!({"id": "7", "name": "train", "status": status, "reason": "", "attempt": 1,
        "failures": 0, "disruptions": 0, "labels": {}, "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z"}))
    .unwrap()
}

/// An object that the controller knows.
fn known() -> TrainingJob {
    let mut object = TrainingJob { spec: json!({}), ..TrainingJob::default() };
    object.metadata.finalizers = Some(vec![TrainingJobKind::FINALIZER.to_owned()]);
    object.metadata.generation = Some(3);
    object
}

fn deleted(mut object: TrainingJob) -> TrainingJob {
    object.metadata.deletion_timestamp =
        Some(serde_json::from_value::<Time>(json!("2026-01-01T00:00:00Z")).unwrap());
    object
}

fn suspended(mut object: TrainingJob) -> TrainingJob {
    object.spec["suspend"] = json!(true);
    object
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
}

#[test]
fn an_object_is_held_before_its_job_is_submitted() {
    let new = TrainingJob { spec: json!({}), ..TrainingJob::default() };
    assert_eq!(step(&new, None), Step::AddFinalizer);
    assert_eq!(step(&known(), None), Step::Submit);
    assert_eq!(step(&known(), Some(&job(JobStatus::Running))), Step::Keep);
    assert_eq!(step(&deleted(new), None), Step::Keep, "nothing was submitted");
}

#[test]
fn an_object_that_is_deleted_stays_until_its_job_has_ended() {
    for (status, expected) in [
        (JobStatus::Queued, Step::Cancel),
        (JobStatus::Running, Step::Cancel),
        (JobStatus::Suspended, Step::Cancel),
        (JobStatus::Suspending, Step::Cancel),
        (JobStatus::Cancelling, Step::Keep),
        (JobStatus::Succeeded, Step::RemoveFinalizer),
        (JobStatus::Cancelled, Step::RemoveFinalizer),
    ] {
        assert_eq!(step(&deleted(known()), Some(&job(status))), expected, "{status}");
    }
    assert_eq!(step(&deleted(known()), None), Step::RemoveFinalizer, "it was refused");
}

#[test]
fn an_object_whose_job_has_ended_is_let_go_once_its_status_says_so() {
    let mut ended = job(JobStatus::Succeeded);
    ended.finished_at = Some(at(7));
    let mut object = known();
    assert_eq!(step(&object, Some(&ended)), Step::Keep);
    object.status = status(&object, Submitted::Job(&ended), at(8));
    assert_eq!(step(&object, Some(&ended)), Step::RemoveFinalizer);
    object.metadata.finalizers = None;
    assert_eq!(step(&object, Some(&ended)), Step::Keep);
}

#[test]
fn a_job_is_suspended_and_resumed_when_the_field_changes() {
    let running = job(JobStatus::Running);
    assert_eq!(step(&suspended(known()), Some(&running)), Step::Suspend);
    let mut resumed = known();
    resumed.status.suspended = true;
    assert_eq!(step(&resumed, Some(&job(JobStatus::Suspending))), Step::Keep, "it is resumed after that");
    assert!(status(&resumed, Submitted::Job(&job(JobStatus::Suspending)), at(0)).suspended);
    assert_eq!(step(&resumed, Some(&job(JobStatus::Suspended))), Step::Resume);
    assert!(!status(&resumed, Submitted::Job(&job(JobStatus::Queued)), at(0)).suspended);
    assert_eq!(step(&known(), Some(&job(JobStatus::Suspended))), Step::Keep, "suspended by other means");
}

#[test]
fn a_job_that_is_suspended_from_the_start_is_not_submitted() {
    let object = suspended(known());
    assert_eq!(step(&object, None), Step::Keep);
    let shown = status(&object, Submitted::Nothing, at(0));
    assert_eq!((shown.phase, shown.suspended), (Some(Phase::Suspended), true));
    let mut resumed = known();
    resumed.status = shown;
    assert_eq!(step(&resumed, None), Step::Submit);
}

#[test]
fn a_status_says_what_kubectl_waits_for_and_since_when() {
    let mut object = known();
    let condition = |status: &Status, kind: &str| {
        let found = status.conditions.iter().find(|condition| condition.kind == kind).unwrap();
        (found.status.clone(), found.last_transition_time)
    };
    object.status = status(&object, Submitted::Job(&job(JobStatus::Running)), at(1));
    assert_eq!(condition(&object.status, "Running"), ("True".to_owned(), at(1)));
    assert_eq!(condition(&object.status, "Complete"), ("False".to_owned(), at(1)));
    object.status = status(&object, Submitted::Job(&job(JobStatus::Succeeded)), at(2));
    assert_eq!(condition(&object.status, "Running"), ("False".to_owned(), at(2)));
    assert_eq!(condition(&object.status, "Complete"), ("True".to_owned(), at(2)));
    assert_eq!(condition(&object.status, "Accepted"), ("True".to_owned(), at(1)));
    assert_eq!(object.status.observed_generation, Some(3));
    let refused = status(&object, Submitted::Refused("spec.image: must name a container image"), at(3));
    assert_eq!(condition(&refused, "Accepted"), ("False".to_owned(), at(3)));
    assert_eq!((refused.phase, refused.job_id), (Some(Phase::Refused), None));
}

#[test]
fn the_last_attempts_are_in_the_status() {
    let mut long = job(JobStatus::Running);
    let attempt = |number| {
        json!({"number": number, "reason": "", "started_at": "2026-01-01T00:00:00Z",
        "cores": [], "gpus": [], "warnings": []})
    };
    long.attempts = Some((1..=25).map(|number| serde_json::from_value(attempt(number)).unwrap()).collect());
    let shown = status(&known(), Submitted::Job(&long), at(0));
    let numbers: Vec<i32> = shown.attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, (16..=25).collect::<Vec<_>>());
}

proptest! {
    /// Whatever happened before: deleting an object ends its job, and the object goes.
    #[test]
    fn deletion_always_ends(
        index in 0..STATUSES.len(), was_suspended: bool, is_suspended: bool, has_job: bool,
    ) {
        let mut object = deleted(known());
        object.status.suspended = was_suspended;
        object.spec = json!({"suspend": is_suspended});
        let mut found = has_job.then(|| job(STATUSES[index]));
        for _ in 0..4 {
            match step(&object, found.as_ref()) {
                Step::Cancel => found = Some(job(JobStatus::Cancelling)),
                Step::Keep => found = Some(job(JobStatus::Cancelled)),
                Step::RemoveFinalizer => return Ok(()),
                other => prop_assert!(false, "{:?}", other),
            }
        }
        prop_assert!(false, "it stays");
    }

    /// A pass that changes nothing writes nothing: the status of a status is the same.
    #[test]
    fn a_status_is_written_once(index in 0..STATUSES.len(), was_suspended: bool, is_suspended: bool) {
        let mut object = known();
        object.status.suspended = was_suspended;
        object.spec = json!({"suspend": is_suspended});
        let found = job(STATUSES[index]);
        object.status = status(&object, Submitted::Job(&found), at(1));
        prop_assert_eq!(&status(&object, Submitted::Job(&found), at(9)), &object.status);
        let text = serde_json::to_string(&object).unwrap();
        prop_assert_eq!(serde_json::from_str::<TrainingJob>(&text).unwrap(), object);
    }
}
