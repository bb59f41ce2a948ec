//! Has a Job hand the bytes of an import to the registry, where the registry cannot read them itself: those
//! of a claim, and of a bucket with the credentials of a ServiceAccount.

use slipway_api::proto::registry::IssueDeliveryRequest;
use slipway_http_server::Problem;
use slipway_kubernetes_resources::model_deployment::{ModelDeployment, Spec};
use slipway_kubernetes_serving::{Delivery, DeliverySource};

use super::delivery_jobs::{Deliveries, Obstacle};
use crate::state::State;

/// Who reads an address.
#[derive(Debug)]
pub(super) enum Reader {
    Registry,
    Job(DeliverySource),
    /// It is not known yet, for this reason.
    Waits(String),
}

/// Who reads the storage of an object.
pub(super) async fn reader(
    state: &State,
    object: &ModelDeployment,
    spec: &Spec,
    uri: &str,
) -> Result<Reader, Problem> {
    let found = match &state.deliveries {
        Some(deliveries) => source(deliveries, object, spec, uri).await,
        None => Ok(None),
    };
    match found {
        Ok(Some(_)) if spec.model.watch => {
            let why = format!(
                "{uri} is read by a Job, once; watch needs s3:// or https:// that the registry reads"
            );
            Err(Problem::invalid("uri", why))
        }
        Ok(Some(source)) => Ok(Reader::Job(source)),
        Ok(None) => Ok(Reader::Registry),
        Err(Obstacle::Waits(why)) => Ok(Reader::Waits(why)),
        Err(Obstacle::Problem(problem)) => Err(problem),
    }
}

async fn source(
    deliveries: &Deliveries,
    object: &ModelDeployment,
    spec: &Spec,
    uri: &str,
) -> Result<Option<DeliverySource>, Obstacle> {
    if let Some(claim) = DeliverySource::of_claim(uri)? {
        return Ok(Some(claim));
    }
    let Some(account) = &spec.model.storage_service_account else { return Ok(None) };
    let secret = deliveries.secret_of(object.namespace(), account).await?;
    let bucket = |secret| DeliverySource::Bucket { uri: uri.to_owned(), account: account.clone(), secret };
    Ok(secret.map(bucket))
}

/// Makes the Job, unless there is one; how far it is.
async fn follow(
    state: &State,
    deliveries: &Deliveries,
    object: &ModelDeployment,
    spec: &Spec,
    delivery: Delivery<'_>,
) -> Result<String, Obstacle> {
    if let Some(progress) = deliveries.progress(object, delivery).await? {
        return Ok(progress);
    }
    let request = IssueDeliveryRequest { import_id: delivery.import.to_owned() };
    let issued = state.imports.clone().issue_delivery(request).await.map_err(Problem::from)?;
    let name = deliveries.begin(object, spec, delivery, &issued.into_inner().token).await?;
    Ok(format!("the Job {name} is made"))
}

/// Has the bytes of an import delivered; what is waited for.
pub(super) async fn ensure(
    state: &State,
    object: &ModelDeployment,
    spec: &Spec,
    delivery: Delivery<'_>,
) -> Result<String, Problem> {
    if delivery.import.is_empty() {
        return Ok("the registry is of an earlier release, and takes no deliveries".to_owned());
    }
    let Some(deliveries) = &state.deliveries else { return Ok("there is no cluster".to_owned()) };
    match follow(state, deliveries, object, spec, delivery).await {
        Ok(progress) => Ok(progress),
        Err(Obstacle::Waits(why)) => Ok(why),
        Err(Obstacle::Problem(problem)) => Err(problem),
    }
}
