//! From a file to a session: device, threads, memory.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use ort::ep::{self, ExecutionProvider as _};
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;

use crate::raw::Runner;
use crate::{Device, Environment, Error, LoadOptions};

/// Optimisations that make models slower on the processor.
///
/// Since ONNX Runtime 1.30 its `SkipLayerNormalization` takes five times as long as in 1.29, and three times
/// as long as the `Add` and the `LayerNormalization` that it stands for; before that there was no difference.
const SLOWER_ON_CPU: &str = "SkipLayerNormFusion";

/// Folder of the files of weights, where a model does not come from a file
/// (onnxruntime_session_options_config_keys.h).
const EXTERNAL_DATA_KEY: &str = "session.model_external_initializers_file_folder_path";

/// Which format a model has. ONNX Runtime would otherwise take a file for its own format by its name or a few
/// of its bytes, and what was read of the graph before would not be what is loaded.
const FORMAT_KEY: &str = "session.load_model_format";

/// What ONNX Runtime says where a library of the device is missing, or there is no GPU.
const DEVICE_FAILURES: [&str; 4] = ["Failed to load library", "CUDA failure", "CUDA error", "CUDNN failure"];

/// Reads and optimises a model, or `changed` in its place; says where it runs, too, which is the processor
/// where its device is not there and it may fall back.
pub(crate) fn open(
    environment: &Environment,
    path: &Path,
    changed: Option<&[u8]>,
    options: &LoadOptions,
) -> Result<(Runner, Device), Error> {
    let device = available(options)?;
    match open_on(environment, path, changed, options, device) {
        Err(error) if device != Device::Cpu && options.fallback => {
            tracing::warn!(%error, device = device.name(), "device unavailable; model runs on the CPU");
            Ok((open_on(environment, path, changed, options, Device::Cpu)?, Device::Cpu))
        }
        opened => Ok((opened?, device)),
    }
}

/// The wanted device, or the processor, where this ONNX Runtime was built without the device and the model
/// may fall back.
fn available(options: &LoadOptions) -> Result<Device, Error> {
    let (there, package) = match options.device {
        Device::Cpu => (Ok(true), ""),
        Device::Cuda => (ep::CUDA::is_available(), "CUDA"),
        Device::TensorRt => (ep::TensorRT::is_available(), "TensorRT"),
    };
    if there.unwrap_or(false) {
        return Ok(options.device);
    }
    if options.fallback {
        tracing::warn!(
            device = options.device.name(),
            "ONNX Runtime was built without the device; models run on the CPU"
        );
        return Ok(Device::Cpu);
    }
    Err(Error::Load(format!(
        "the device '{}' is not available: this ONNX Runtime was built without {package}; set \
         SLIPWAY_ONNXRUNTIME_LIB to the library of onnxruntime-gpu, or allow the fallback to the CPU",
        options.device.name()
    )))
}

fn open_on(
    environment: &Environment,
    path: &Path,
    changed: Option<&[u8]>,
    options: &LoadOptions,
    device: Device,
) -> Result<Runner, Error> {
    // ort panics on types that it does not know, and a model comes from outside.
    let opened = catch_unwind(AssertUnwindSafe(|| commit(environment, path, changed, options, device)));
    let session = opened
        .map_err(|_panic| Error::Load("ONNX Runtime does not know a type that the model uses".to_owned()))?
        .map_err(|error| refused(&without_path(&error, path), device))?;
    let shrinks = if device == Device::Cpu { c"cpu:0" } else { c"cpu:0;gpu:0" };
    Runner::new(session, shrinks)
}

fn commit(
    environment: &Environment,
    path: &Path,
    changed: Option<&[u8]>,
    options: &LoadOptions,
    device: Device,
) -> ort::Result<Session> {
    let cpu = ep::CPU::default().with_arena_allocator(options.arena).build();
    let cuda = || ep::CUDA::default().build().error_on_failure();
    let providers = match device {
        Device::Cpu => vec![cpu],
        Device::Cuda => vec![cuda(), cpu],
        Device::TensorRt => vec![ep::TensorRT::default().build().error_on_failure(), cuda(), cpu],
    };
    let left_out = if device == Device::Cpu { SLOWER_ON_CPU } else { "" };
    let mut builder = Session::builder(&environment.inner)?
        .with_execution_providers(providers)?
        .with_config_entry("optimization.disable_specified_optimizers", left_out)?
        .with_config_entry(FORMAT_KEY, "ONNX")?
        .with_intra_threads(options.intra_threads.max(1))?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        // A pattern is kept for each shape that ever came, and shapes vary without end.
        .with_memory_pattern(false)?
        // Weights never change size; in the arena they would be rounded up to a power of two.
        .with_device_allocated_initializers()?
        .with_optimization_level(GraphOptimizationLevel::All)?;
    match changed {
        None => builder.commit_from_file(path),
        Some(bytes) => {
            let folder = path.parent().unwrap_or(path).display().to_string();
            builder.with_config_entry(EXTERNAL_DATA_KEY, folder)?.commit_from_memory(bytes)
        }
    }
}

/// Why there is no session: for its device, or for the model.
fn refused(message: &str, device: Device) -> Error {
    let of_device = DEVICE_FAILURES.iter().any(|sign| message.contains(sign));
    if device == Device::Cpu || !of_device {
        return Error::Load(format!("ONNX Runtime rejects the model: {message}"));
    }
    // Before it is where in its source ONNX Runtime gave up.
    let cause = message.rsplit_once(": FAIL : ").map_or(message, |(_, cause)| cause).trim();
    Error::Load(format!(
        "the device '{}' cannot be used: {cause}; fix that, or allow the fallback to the CPU",
        device.name()
    ))
}

/// The message without the file's path, which clients must not see.
fn without_path(error: &ort::Error, path: &Path) -> String {
    error.message().replace(&path.display().to_string(), "the model file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_device_lacks_is_not_blamed_on_the_model() {
        let message = "/src/provider_bridge_ort.cc:1844 onnxruntime::Provider& Get() [ONNXRuntimeError] : 1 \
            : FAIL : Failed to load library libonnxruntime_providers_cuda.so with error: libcublasLt.so.12: \
            cannot open shared object file\n";
        assert_eq!(
            refused(message, Device::Cuda).to_string(),
            "the device 'cuda' cannot be used: Failed to load library libonnxruntime_providers_cuda.so with \
             error: libcublasLt.so.12: cannot open shared object file; fix that, or allow the fallback to \
             the CPU"
        );
        let message = "CUDA failure 100: no CUDA-capable device is detected ; GPU=-1";
        assert!(
            refused(message, Device::TensorRt)
                .to_string()
                .starts_with("the device 'tensorrt' cannot be used: CUDA")
        );
        for device in [Device::Cpu, Device::Cuda] {
            let other = refused("Load model failed: Protobuf parsing failed.", device).to_string();
            assert_eq!(other, "ONNX Runtime rejects the model: Load model failed: Protobuf parsing failed.");
        }
    }
}
