//! What the registry keeps of an ONNX file: what the graph takes and returns, which files its weights lie in,
//! and whether serving may join its requests.

use std::collections::BTreeMap;
use std::io::BufReader;

use slipway_domain::registry::TensorSpec;
pub(crate) use slipway_onnx_graph::Fault;
use slipway_onnx_graph::{Interface, row_wise};
use tokio::io::AsyncBufRead;
use tokio_util::io::SyncIoBridge;

use crate::store::facts::{Joining, Tensor};

/// Bytes that are fetched from the stream at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// What the header says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Header {
    /// In the graph's order, without those that weights stand for.
    pub(crate) inputs: Vec<TensorSpec>,
    pub(crate) outputs: Vec<Tensor>,
    /// Files of weights by their path in the model's folder, and the bytes that each has to have at least.
    pub(crate) external_data: BTreeMap<String, u64>,
    /// Why the graph cannot be called with tensors alone.
    pub(crate) unservable: Option<String>,
    /// Whether its requests may be joined.
    pub(crate) joining: Joining,
}

/// Reads a header from a file of `size_bytes`, whose weights are skipped.
pub(crate) async fn read(
    source: impl AsyncBufRead + Unpin + Send + 'static,
    size_bytes: u64,
) -> Result<Header, Fault> {
    let source = SyncIoBridge::new(source);
    let reading = tokio::task::spawn_blocking(move || {
        header(BufReader::with_capacity(BUFFER_BYTES, source), size_bytes)
    });
    reading.await.unwrap_or_else(|error| Err(Fault::Read(std::io::Error::other(error))))
}

fn header(source: impl std::io::BufRead, size_bytes: u64) -> Result<Header, Fault> {
    let model = slipway_onnx_graph::read(source, size_bytes)?;
    let Interface { inputs, outputs, unservable } = model.interface()?;
    let input = |spec: slipway_onnx_graph::TensorSpec| TensorSpec {
        name: spec.name,
        datatype: spec.datatype.name().to_owned(),
        shape: spec.shape,
    };
    let output = |spec: slipway_onnx_graph::TensorSpec| {
        let classes = spec.classes.clone();
        Tensor { classes, ..input(spec).into() }
    };
    let obstacle = row_wise::check(&model).err();
    Ok(Header {
        inputs: inputs.into_iter().map(input).collect(),
        outputs: outputs.into_iter().map(output).collect(),
        external_data: model.external_data,
        unservable,
        joining: Joining {
            row_wise: obstacle.is_none(),
            reason: obstacle.map(|obstacle| obstacle.to_string()),
        },
    })
}
