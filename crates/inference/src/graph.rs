//! The graph of a model, read in addition to what ONNX Runtime reads of it.

use std::path::Path;

use slipway_onnx_graph::{Model, read_file, zip_map};

use crate::{Classes, Error};

/// See the module. Where it does not parse, ONNX Runtime says what is wrong with the model.
pub(crate) struct Graph(Option<Model>);

impl Graph {
    pub(crate) fn read(path: &Path) -> Self {
        let read = read_file(path);
        if let Err(fault) = &read {
            tracing::debug!(%fault, "the graph of a model is not analysed");
        }
        Self(read.ok())
    }

    pub(crate) const fn model(&self) -> Option<&Model> {
        self.0.as_ref()
    }

    /// Classes that ZipMap nodes name, by output.
    pub(crate) fn classes(&self) -> Classes {
        let outputs = self.0.as_ref().map(|model| zip_map::outputs(&model.graph)).unwrap_or_default();
        outputs.into_values().map(|output| (output.name, output.classes)).collect()
    }

    /// The model's bytes without ZipMap, where it has some whose maps are outputs.
    pub(crate) fn changed(&self, path: &Path) -> Result<Option<Vec<u8>>, Error> {
        let Some(model) = self.0.as_ref().filter(|model| !zip_map::outputs(&model.graph).is_empty()) else {
            return Ok(None);
        };
        let refused = |reason: String| Error::Load(format!("its ZipMap cannot be replaced: {reason}"));
        let bytes = std::fs::read(path).map_err(|error| refused(error.to_string()))?;
        zip_map::without(&bytes, model).map_err(|fault| refused(fault.to_string()))
    }
}
