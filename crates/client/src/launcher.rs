//! The launcher's REST API, v1.

use reqwest::Method;
use serde::de::DeserializeOwned;
use slipway_api::rest::launcher::{
    CapacityReport, CheckpointDetails, Checkpoints, Job, JobResumption, JobSpec, Jobs, JobsQuery, LogChunk,
    LogEnd, LogsQuery,
};

use crate::sse::Reader;
use crate::{ByteStream, Client, Error, Request};

/// A client of the launcher. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Launcher {
    client: Client,
}

impl From<Client> for Launcher {
    fn from(client: Client) -> Self {
        Self { client }
    }
}

impl Launcher {
    /// A request for a path below `/api/v1`.
    fn request(&self, method: Method, segments: &[&str]) -> Request<'_> {
        self.client.request(method, &[&["api", "v1"], segments].concat())
    }

    /// Lists jobs.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn jobs(&self, query: &JobsQuery) -> Result<Jobs, Error> {
        self.request(Method::GET, &["jobs"]).query(query).read().await
    }

    /// Submits a job.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn submit(&self, spec: &JobSpec) -> Result<Job, Error> {
        self.request(Method::POST, &["jobs"]).json(spec).read().await
    }

    /// Shows a job.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn job(&self, id: &str) -> Result<Job, Error> {
        self.request(Method::GET, &["jobs", id]).read().await
    }

    /// Cancels a job.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cancel(&self, id: &str) -> Result<Job, Error> {
        self.request(Method::POST, &["jobs", id, "cancel"]).read().await
    }

    /// Suspends a job.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn suspend(&self, id: &str) -> Result<Job, Error> {
        self.request(Method::POST, &["jobs", id, "suspend"]).read().await
    }

    /// Resumes a suspended job.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn resume(&self, id: &str, resumption: &JobResumption) -> Result<Job, Error> {
        self.request(Method::POST, &["jobs", id, "resume"]).json(resumption).read().await
    }

    /// Lists the committed checkpoints of a job.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn checkpoints(&self, id: &str) -> Result<Checkpoints, Error> {
        self.request(Method::GET, &["jobs", id, "checkpoints"]).read().await
    }

    /// Shows a checkpoint with its files.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn checkpoint(&self, id: &str, step: u64) -> Result<CheckpointDetails, Error> {
        self.request(Method::GET, &["jobs", id, "checkpoints", &step.to_string()]).read().await
    }

    /// Deletes the checkpoints of a step.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_checkpoint(&self, id: &str, step: u64) -> Result<(), Error> {
        self.request(Method::DELETE, &["jobs", id, "checkpoints", &step.to_string()]).done().await
    }

    /// Shows what the machine has for jobs.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn capacity(&self) -> Result<CapacityReport, Error> {
        self.request(Method::GET, &["capacity"]).read().await
    }

    /// Reads the output of a job as text.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn logs(&self, id: &str, query: &LogsQuery) -> Result<ByteStream, Error> {
        self.request(Method::GET, &["jobs", id, "logs"]).query(query).stream().await
    }

    /// Reads the output of a job as events, from the beginning or after the event with the id `after`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn log_events(
        &self,
        id: &str,
        query: &LogsQuery,
        after: Option<&str>,
    ) -> Result<LogEvents, Error> {
        let request = self.request(Method::GET, &["jobs", id, "logs"]).query(query);
        let request = request.header("accept", "text/event-stream");
        let request = match after {
            Some(after) => request.header("last-event-id", after),
            None => request,
        };
        Ok(LogEvents { reader: Reader::new(request.stream().await?) })
    }
}

/// The output of a job as events.
#[derive(Debug)]
pub struct LogEvents {
    reader: Reader,
}

/// An event of [`LogEvents`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEvent {
    /// Output, with the id to continue after it.
    Output {
        /// The event's id.
        id: String,
        /// The output.
        chunk: LogChunk,
    },
    /// Nothing follows.
    End(LogEnd),
}

impl LogEvents {
    /// The next event; `None` where the stream was interrupted between two events.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn next(&mut self) -> Result<Option<LogEvent>, Error> {
        while let Some(message) = self.reader.next().await? {
            match message.event.as_str() {
                "output" => {
                    let id = message.id.unwrap_or_default();
                    return Ok(Some(LogEvent::Output { id, chunk: read(&message.data)? }));
                }
                "end" => return Ok(Some(LogEvent::End(read(&message.data)?))),
                // The token ended, or the role.
                "error" => return Err(Error::Unreachable(message.data)),
                // Events of a later release.
                _ => {}
            }
        }
        Ok(None)
    }
}

fn read<T: DeserializeOwned>(data: &str) -> Result<T, Error> {
    serde_json::from_str(data)
        .map_err(|error| Error::Unexpected(format!("an event of a log is not of this API: {error}")))
}
