//! Jobs for other services.

use slipway_api::proto::launcher::launcher_server::Launcher;
use slipway_api::proto::launcher::{
    CancelJobRequest, GetJobRequest, Job, ListJobsRequest, ListJobsResponse, ResumeJobRequest,
    SubmitJobRequest, SuspendJobRequest,
};
use slipway_domain::training::JobSpec;
use slipway_http_server::Problem;
use slipway_http_server::extract::parse_json;
use slipway_http_server::page::PageQuery;
use tonic::{Request, Response, Status};

use crate::state::State;
use crate::store::jobs::StoredJob;
use crate::{change, manage};

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    state: State,
}

impl Service {
    pub(crate) const fn new(state: State) -> Self {
        Self { state }
    }
}

#[tonic::async_trait]
impl Launcher for Service {
    async fn submit_job(&self, request: Request<SubmitJobRequest>) -> Result<Response<Job>, Status> {
        let request = request.into_inner();
        let mut spec: JobSpec = parse_json(request.spec_json.as_bytes())?;
        if !request.idempotency_key.is_empty() {
            spec.idempotency_key = Some(request.idempotency_key);
        }
        let (job, _created) = change::submit(&self.state, manage::of_client(spec)?).await?;
        answer(&job)
    }

    async fn get_job(&self, request: Request<GetJobRequest>) -> Result<Response<Job>, Status> {
        let id = manage::job_id(&request.into_inner().id)?;
        answer(&manage::find(&self.state, id).await?)
    }

    async fn list_jobs(
        &self,
        request: Request<ListJobsRequest>,
    ) -> Result<Response<ListJobsResponse>, Status> {
        let request = request.into_inner();
        let page = PageQuery::of_message(request.limit, request.page_token);
        let found = manage::list(&self.state, Some(&request.status), &page).await?;
        let jobs = found.items.iter().map(message).collect::<Result<_, Problem>>()?;
        let next_page_token = found.next_page_token.unwrap_or_default();
        Ok(Response::new(ListJobsResponse { jobs, next_page_token }))
    }

    async fn cancel_job(&self, request: Request<CancelJobRequest>) -> Result<Response<Job>, Status> {
        let id = manage::job_id(&request.into_inner().id)?;
        answer(&manage::cancel(&self.state, id).await?)
    }

    async fn suspend_job(&self, request: Request<SuspendJobRequest>) -> Result<Response<Job>, Status> {
        let id = manage::job_id(&request.into_inner().id)?;
        answer(&manage::suspend(&self.state, id).await?)
    }

    async fn resume_job(&self, request: Request<ResumeJobRequest>) -> Result<Response<Job>, Status> {
        let ResumeJobRequest { id, replicas } = request.into_inner();
        let replicas = (!replicas.is_empty()).then(|| replicas.into_iter().collect());
        answer(&manage::resume(&self.state, manage::job_id(&id)?, replicas).await?)
    }
}

fn answer(job: &StoredJob) -> Result<Response<Job>, Status> {
    Ok(Response::new(message(job)?))
}

fn message(job: &StoredJob) -> Result<Job, Problem> {
    Ok(Job {
        id: job.id.to_string(),
        name: job.spec.name.clone(),
        status: job.state.status().as_str().to_owned(),
        reason: job.state.reason().to_owned(),
        attempt: job.state.attempt(),
        spec_json: serde_json::to_string(&job.spec).map_err(Problem::internal)?,
        created_at_unix_ms: job.created_at.timestamp_millis(),
        updated_at_unix_ms: job.updated_at.timestamp_millis(),
        checkpoint_step: job.checkpoint_step,
    })
}
