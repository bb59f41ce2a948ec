//! Checkpoints on their way to the store: the newest whole one is uploaded while the command goes on, then
//! the launcher writes its manifest and commits it.

mod folder;
mod renames;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use slipway_domain::training::{
    MANIFEST_SCHEMA, Manifest, ManifestFile, Moment, SaveTime, Sighting, Watch, upload_prefix,
};
use slipway_runtime::clock::now_unix_ms;
use slipway_runtime::{clock, id};
use tokio::sync::watch;
use tokio::time::Instant;

use self::folder::{Found, FoundFile, Group, Look};
use self::renames::Renames;
use crate::launcher::{CallError, Launcher};
use crate::objects::{self, Objects, Source};
use crate::spool::Spool;
use crate::warnings::Warnings;

/// The checkpoint folder is looked at this often; less often where a look takes long.
const POLL_INTERVAL_MS: u64 = 200;
/// Share of its time that the agent spends looking, at most one of so many parts.
const LOOK_SHARE: u32 = 10;
const RETRY_DELAY_MS: u64 = 1_000;
/// The last checkpoint must be stored within this time after the command's end.
const FINAL_UPLOAD_TIMEOUT_MS: u64 = 120_000;
/// Looks after which an unknown name is not one that is about to be renamed.
const LOOKS_BEFORE_REPORT: u32 = 25;
/// Unknown names that are reported.
const MAX_REPORTED_NAMES: usize = 10;
const EXPECTED_NAMES: &str =
    "`500/`, `checkpoint-500/`, `epoch=1-step=500.ckpt`, `ckpt_500.pt` or `last.ckpt`";

/// The command's end, for what depends on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    /// How it ended.
    pub(crate) moment: Moment,
    /// When it ended.
    pub(crate) at: SystemTime,
}

/// Uploads what appears in one attempt's checkpoint folder.
#[derive(Debug)]
pub(crate) struct Uploader {
    pub(crate) objects: Objects,
    pub(crate) launcher: Launcher,
    pub(crate) spool: Spool,
    pub(crate) warnings: Warnings,
    pub(crate) folder: PathBuf,
    /// Name of the file that makes a checkpoint's folder complete.
    pub(crate) marker: Option<String>,
    pub(crate) job_id: String,
    pub(crate) attempt: u32,
    /// Object key prefix of the job's checkpoints.
    pub(crate) prefix: String,
    /// Step that was restored: what lies there at the start needs no upload.
    pub(crate) restored: Option<u64>,
    /// When the agent is killed, once this is known.
    pub(crate) killed_at: watch::Receiver<Option<Instant>>,
}

/// Why a checkpoint is not stored.
#[derive(Debug)]
enum Failure {
    /// It may go well later.
    Later(String),
    /// The checkpoint itself is at fault.
    Never(String),
    /// It changed while it was uploaded, or is gone.
    Changed,
    /// The attempt has been replaced.
    Fenced,
}

/// What a running upload knows.
#[derive(Debug)]
struct State {
    renames: Option<Renames>,
    watch: Watch,
    /// Fingerprint of the last checkpoint without a step that was done.
    rolling_done: Option<u64>,
    begun: Instant,
    /// How long saves take.
    times: SaveTime,
    /// Unknown names, and how often each was seen.
    unknown: BTreeMap<String, u32>,
}

impl Uploader {
    /// Watches until `end` is there, then stores what is left. What goes wrong becomes a warning: it is no
    /// reason to run the command again.
    pub(crate) async fn run(self, mut end: watch::Receiver<Option<End>>) {
        let mut state = State {
            renames: Some(Renames::watch(&self.folder)),
            watch: Watch::default(),
            rolling_done: None,
            begun: Instant::now(),
            times: SaveTime::default(),
            unknown: BTreeMap::new(),
        };
        self.skip_what_is_there(&mut state).await;
        let mut deadline = None;
        loop {
            let ended = *end.borrow_and_update();
            if ended.is_some() && deadline.is_none() {
                deadline = Some(Instant::now() + Duration::from_millis(FINAL_UPLOAD_TIMEOUT_MS));
            }
            let looked_at = Instant::now();
            let found = self.look(&mut state, ended.map(|end| end.at)).await;
            self.report_unknown(&mut state, &found, ended.is_some()).await;
            let sightings = sightings(&state, &found);
            let moment = ended.map_or(Moment::Running, |end| end.moment);
            let decision = state.watch.look(elapsed_ms(state.begun), &sightings, moment);
            let Some(group) = decision.store.and_then(|step| found.group(step)) else {
                if ended.is_some() {
                    self.report_abandoned(&decision.abandoned, &found).await;
                    return;
                }
                let pause = Duration::from_millis(POLL_INTERVAL_MS).max(looked_at.elapsed() * LOOK_SHARE);
                wait(pause, &mut end).await;
                continue;
            };
            match self.store_one(&mut state, group, ended).await {
                Ok(()) => self.done(&mut state, group),
                Err(Failure::Fenced) => return,
                Err(Failure::Changed) => {
                    if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        return;
                    }
                }
                Err(Failure::Never(reason)) => {
                    self.complain(group, &reason).await;
                    self.done(&mut state, group);
                }
                Err(Failure::Later(reason)) => {
                    tracing::warn!(%reason, step = group.sighting.step, "checkpoint not stored; retrying");
                    self.complain(group, &reason).await;
                    if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        return;
                    }
                    wait(Duration::from_millis(RETRY_DELAY_MS), &mut end).await;
                }
            }
        }
    }

    /// Why a save is not begun: the agent would be killed before its end.
    fn comes_too_late(&self, times: &SaveTime, group: &Group) -> Option<String> {
        let remaining = (*self.killed_at.borrow())?.saturating_duration_since(Instant::now());
        let bytes = group.size_bytes();
        if times.fits(bytes, u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX)) {
            return None;
        }
        let takes = times.estimate_ms(bytes).map_or(0, |estimate_ms| estimate_ms.div_ceil(1_000));
        Some(format!(
            "its {bytes} bytes take about {takes} s, and the pod is killed in {} s; a longer grace_period_s \
             leaves more time",
            remaining.as_secs()
        ))
    }

    /// What was restored is stored already; files of the job's own are not.
    async fn skip_what_is_there(&self, state: &mut State) {
        let Some(restored) = self.restored else { return };
        state.watch.set_done(restored, 0);
        let found = self.look(state, None).await;
        for group in &found.groups {
            if group.is_rolling {
                state.rolling_done = Some(group.sighting.fingerprint);
            } else if group.sighting.step <= restored {
                self.done(state, group);
            }
        }
    }

    fn done(&self, state: &mut State, group: &Group) {
        state.watch.set_done(group.sighting.step, group.sighting.fingerprint);
        if group.is_rolling {
            state.rolling_done = Some(group.sighting.fingerprint);
        }
    }

    async fn look(&self, state: &mut State, until: Option<SystemTime>) -> Found {
        let look = Look {
            folder: self.folder.clone(),
            marker: self.marker.clone(),
            until: until.unwrap_or_else(clock::now),
            rolling_step: state.watch.last_done().map_or(1, |step| step.saturating_add(1)),
        };
        let mut renames = state.renames.take().unwrap_or_else(|| Renames::watch(&self.folder));
        let looked = tokio::task::spawn_blocking(move || (look.take(&mut renames), renames)).await;
        match looked {
            Ok((Ok(found), renames)) => {
                state.renames = Some(renames);
                found
            }
            Ok((Err(error), renames)) => {
                state.renames = Some(renames);
                let text = format!("the checkpoint folder cannot be read: {error}");
                self.warn("folder", &text).await;
                Found::default()
            }
            Err(error) => {
                tracing::error!(%error, "reading the checkpoint folder panicked");
                Found::default()
            }
        }
    }

    async fn report_unknown(&self, state: &mut State, found: &Found, ended: bool) {
        state.unknown.retain(|name, _| found.not_recognised.contains(name));
        for name in &found.not_recognised {
            *state.unknown.entry(name.clone()).or_default() += 1;
        }
        let seen = state.unknown.iter().filter(|(_, looks)| ended || **looks >= LOOKS_BEFORE_REPORT);
        let mut names: Vec<String> =
            seen.map(|(name, _)| format!("`{}`", name.escape_debug())).take(MAX_REPORTED_NAMES + 1).collect();
        if names.is_empty() {
            return;
        }
        if names.len() > MAX_REPORTED_NAMES {
            names.truncate(MAX_REPORTED_NAMES);
            names.push("others".to_owned());
        }
        let text = format!(
            "not stored from the checkpoint folder: {}; the names of checkpoints are recognised in forms \
             such as {EXPECTED_NAMES}",
            names.join(", ")
        );
        self.warn("unknown-names", &text).await;
    }

    async fn report_abandoned(&self, steps: &[u64], found: &Found) {
        for group in steps.iter().filter_map(|step| found.group(*step)) {
            let what = match &self.marker {
                Some(marker) => format!("it lacks the marker `{marker}`"),
                None => {
                    "it was still being written when the command ended. Write it under another name such as \
                         `500.tmp` and rename it, or set `checkpoint.marker`"
                        .to_owned()
                }
            };
            let text = format!("{} is not stored: {what}", title(group));
            self.warn(&format!("step-{}", group.sighting.step), &text).await;
        }
    }

    async fn complain(&self, group: &Group, reason: &str) {
        let text = format!("{} could not be stored: {reason}", title(group));
        self.warn(&format!("step-{}", group.sighting.step), &text).await;
    }

    /// A line of the log and a warning of the attempt, where it is news.
    async fn warn(&self, key: &str, text: &str) {
        if self.warnings.set(key, text) {
            self.spool.note(&format!("warning: {text}")).await;
        }
    }

    async fn store_one(&self, state: &mut State, group: &Group, ended: Option<End>) -> Result<(), Failure> {
        let refused = group.refused.clone().or_else(|| self.comes_too_late(&state.times, group));
        if let Some(reason) = refused {
            return Err(Failure::Never(reason));
        }
        let begun = Instant::now();
        let step = group.sighting.step;
        let prefix = upload_prefix(&self.prefix, step, self.attempt, &id::random().to_string());
        let files = match self.put_files(&prefix, &group.files).await {
            Ok(files) => files,
            Err(failure) => {
                self.discard(&prefix).await;
                return Err(failure);
            }
        };
        let manifest = self.manifest(group, prefix, files);
        if let Err(invalid) = manifest.validate() {
            self.discard(&manifest.prefix).await;
            return Err(Failure::Never(invalid.to_string()));
        }
        // What was read is one state of the checkpoint only if it is still the same.
        let again = self.look(state, ended.map(|end| end.at)).await;
        if again.group(step).map(|now| now.sighting.fingerprint) != Some(group.sighting.fingerprint) {
            self.discard(&manifest.prefix).await;
            return Err(Failure::Changed);
        }
        self.commit(&manifest).await?;
        state.times.observe(group.size_bytes(), elapsed_ms(begun));
        self.warnings.clear(&format!("step-{step}"));
        for left_out in &group.left_out {
            self.warn(left_out, &format!("{} is stored without a part: {left_out}", title(group))).await;
        }
        Ok(())
    }

    async fn put_files(&self, prefix: &str, files: &[FoundFile]) -> Result<Vec<ManifestFile>, Failure> {
        let sources: Vec<Source<'_>> = files
            .iter()
            .map(|file| Source { path: &file.path, file: &file.source, size_bytes: file.size_bytes })
            .collect();
        let digests = self.objects.put_files(prefix, &sources).await?;
        let stored = files.iter().zip(digests).map(|(file, sha256)| ManifestFile {
            path: file.path.clone(),
            size_bytes: file.size_bytes,
            sha256,
            mode: Some(file.mode),
            part: None,
        });
        Ok(stored.collect())
    }

    fn manifest(&self, group: &Group, prefix: String, files: Vec<ManifestFile>) -> Manifest {
        Manifest {
            schema: MANIFEST_SCHEMA.to_owned(),
            job_id: self.job_id.clone(),
            attempt: self.attempt,
            step: group.sighting.step,
            prefix,
            files,
            folders: group.folders.clone(),
            links: group.links.clone(),
            resume_from: group.resume_from.clone(),
            world_size: None,
            parts: Vec::new(),
            created_at_unix_ms: now_unix_ms(),
        }
    }

    async fn commit(&self, manifest: &Manifest) -> Result<(), Failure> {
        let json = serde_json::to_string(&manifest).map_err(|error| Failure::Never(error.to_string()))?;
        self.launcher.commit_checkpoint(manifest, json).await?;
        tracing::info!(step = manifest.step, files = manifest.files.len(), "checkpoint committed");
        Ok(())
    }

    /// Deletes what an upload has stored. Best effort: it belongs to no checkpoint, and is collected later.
    async fn discard(&self, prefix: &str) {
        if let Err(error) = self.launcher.discard_upload(prefix).await {
            tracing::warn!(%error, %prefix, "unfinished checkpoint not deleted");
        }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Fenced(_) => Self::Fenced,
            CallError::Away(_) => Self::Later(error.to_string()),
            CallError::Refused(_) => Self::Never(error.to_string()),
        }
    }
}

impl From<objects::Error> for Failure {
    fn from(error: objects::Error) -> Self {
        match error {
            objects::Error::Launcher(error) => error.into(),
            objects::Error::Changed { .. } => Self::Changed,
            objects::Error::File(error) if error.kind() == std::io::ErrorKind::NotFound => Self::Changed,
            objects::Error::File(error) => Self::Never(error.to_string()),
            error => Self::Later(error.to_string()),
        }
    }
}

/// What the decision is about: everything but a checkpoint without a step that is as it was when it was done.
fn sightings(state: &State, found: &Found) -> Vec<Sighting> {
    let is_done = |group: &&Group| group.is_rolling && state.rolling_done == Some(group.sighting.fingerprint);
    found.groups.iter().filter(|group| !is_done(group)).map(|group| group.sighting).collect()
}

/// A checkpoint as messages name it.
fn title(group: &Group) -> String {
    let name = group.resume_from.as_ref().map(|name| format!(" (`{name}`)")).unwrap_or_default();
    format!("the checkpoint of step {}{name}", group.sighting.step)
}

fn elapsed_ms(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Waits, but not beyond the command's end.
async fn wait(duration: Duration, end: &mut watch::Receiver<Option<End>>) {
    if end.borrow().is_some() {
        tokio::time::sleep(duration).await;
        return;
    }
    tokio::select! {
        () = tokio::time::sleep(duration) => {}
        // A caller that reports the end lives longer than this.
        _ = end.changed() => {}
    }
}
