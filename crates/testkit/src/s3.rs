//! S3: one server a test process, one bucket a test.

use std::sync::OnceLock;

use slipway_toolbox::servers::{self, S3Keys, S3Options};

use crate::hosts::{Host, lasting_folder};
use crate::{account, toolbox};

/// A bucket of one's own, not made yet.
#[derive(Debug, Clone)]
pub struct TestBucket {
    /// `http://127.0.0.1:<port>`.
    pub endpoint: String,
    /// Access key id.
    pub access_key: String,
    /// Secret access key.
    pub secret_key: String,
    /// Name of the bucket.
    pub bucket: String,
}

pub(crate) async fn bucket() -> TestBucket {
    static SHARED: OnceLock<(Host, String, S3Keys)> = OnceLock::new();
    let server = tokio::task::spawn_blocking(|| {
        SHARED.get_or_init(|| {
            let path = lasting_folder();
            let options = S3Options {
                program: toolbox().weed(&mut |_| {}).expect("SeaweedFS is there"),
                dir: path.join("s3"),
                log_dir: path.join("logs"),
                port: servers::free_port().expect("a free port"),
                account: account(),
            };
            Host::start(None, move || servers::start_s3(&options).expect("SeaweedFS starts"))
        })
    })
    .await
    .expect("SeaweedFS starts");
    TestBucket {
        endpoint: server.1.clone(),
        access_key: server.2.access_key.clone(),
        secret_key: server.2.secret_key.clone(),
        bucket: format!("test-{}", uuid::Uuid::new_v4().simple()),
    }
}
