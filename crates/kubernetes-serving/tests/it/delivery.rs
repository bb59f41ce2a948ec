//! The objects of deliveries, compared with files.

use serde_json::{Value, json};
use slipway_kubernetes_serving::{Delivery, DeliverySource, S3Secret};

use crate::{compare, facts, object};

const IMPORT: &str = "0198f3a2-7b1c-7d00-8000-0123456789ab";

fn shown(spec: Value, source: &DeliverySource) -> Value {
    let object = object(spec);
    let delivery = Delivery { import: IMPORT, source };
    let job = delivery.job(&object, &object.parsed().unwrap(), &facts()).unwrap();
    json!([delivery.secret(&object, "the-token"), job])
}

#[test]
fn a_job_reads_a_claim() {
    let uri = "pvc://models/fraud";
    let source = DeliverySource::of_claim(uri).unwrap().unwrap();
    compare("delivery-claim", &shown(json!({"model": {"storageUri": uri}}), &source));
}

#[test]
fn a_job_reads_a_bucket_with_the_secret_of_a_service_account() {
    let uri = "s3://models/fraud";
    let secret = S3Secret {
        name: "s3creds".to_owned(),
        endpoint: Some("http://minio.minio:9000".to_owned()),
        region: Some("eu-west-1".to_owned()),
    };
    let source = DeliverySource::Bucket { uri: uri.to_owned(), account: "reader".to_owned(), secret };
    let spec = json!({"model": {"storageUri": uri, "storageServiceAccount": "reader"}, "image": "serving:2",
        "imagePullSecrets": ["pull"], "nodeSelector": {"pool": "cpu"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}]});
    compare("delivery-bucket", &shown(spec, &source));
}

#[test]
fn names_are_short_and_those_of_other_imports_are_others() {
    let source = DeliverySource::of_claim("pvc://models/fraud").unwrap().unwrap();
    let mut object = object(json!({"model": {"storageUri": "pvc://models/fraud"}}));
    object.metadata.name = Some(format!("{}-and-more", "long".repeat(10)));
    let name = |import: &str| Delivery { import, source: &source }.name(&object);
    assert!(name(IMPORT).len() <= 63, "{}", name(IMPORT));
    assert_ne!(name(IMPORT), name("0198f3a2-7b1c-7d00-8000-0123456789ac"));
}
