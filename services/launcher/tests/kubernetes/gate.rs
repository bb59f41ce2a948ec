//! Where processes in pods wait for the test.

use slipway_kubernetes_testkit::NODE_ADDRESS;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

/// A barrier of the test: each process connects, and continues when its connection is closed.
pub(crate) struct Gate {
    listener: TcpListener,
    waiting: Vec<TcpStream>,
}

impl Gate {
    pub(crate) async fn begin() -> Self {
        Self { listener: TcpListener::bind((NODE_ADDRESS, 0)).await.unwrap(), waiting: Vec::new() }
    }

    /// A command that waits at this gate.
    pub(crate) fn command(&self) -> String {
        format!("nc {NODE_ADDRESS} {} < /dev/null > /dev/null", self.listener.local_addr().unwrap().port())
    }

    /// Waits for this number of processes.
    pub(crate) async fn filled(&mut self, processes: usize) {
        while self.waiting.len() < processes {
            self.waiting.push(self.listener.accept().await.unwrap().0);
        }
    }

    pub(crate) async fn open(&mut self) {
        for mut stream in self.waiting.drain(..) {
            stream.shutdown().await.unwrap();
        }
    }
}
