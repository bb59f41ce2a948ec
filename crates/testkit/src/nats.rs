//! NATS servers.

use slipway_toolbox::servers::{self, NatsOptions, NatsUser};

use crate::hosts::{Host, open_folder};
use crate::{account, toolbox};

/// A NATS server with JetStream; gone when dropped.
#[derive(Debug)]
pub struct TestNats {
    host: Host,
    /// `nats://user:password@127.0.0.1:<port>`; the user may do everything.
    pub url: String,
}

impl TestNats {
    /// Ends it at once, as a crash would.
    pub async fn kill(&self) {
        tokio::task::block_in_place(|| self.host.kill());
    }

    /// Starts it again on the same port and data.
    pub async fn start_again(&self) {
        tokio::task::block_in_place(|| self.host.start_again());
    }
}

pub(crate) async fn start() -> TestNats {
    tokio::task::spawn_blocking(|| {
        let (folder, path) = open_folder();
        let options = NatsOptions {
            program: toolbox().nats_server(&mut |_| {}).expect("the NATS server is there"),
            dir: path.join("nats"),
            log_dir: path.join("logs"),
            port: servers::free_port().expect("a free port"),
            account: account(),
            users: vec![NatsUser::unlimited("tester")],
        };
        let (host, url, ()) =
            Host::start(Some(folder), move || (servers::start_nats(&options).expect("NATS starts").0, ()));
        TestNats { host, url }
    })
    .await
    .expect("NATS starts")
}
