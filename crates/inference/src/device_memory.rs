//! Memory of GPUs that this process holds, as the driver's library (NVML) says, where there is one.
//!
//! The library is looked for when the first model is loaded for a GPU, and never where all run on the
//! processor. CUDA and NVML count devices differently, so a model is where the memory grew while it was
//! loaded.

use std::sync::OnceLock;

use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::{Device, Nvml};

/// The driver brings this name; the one without a number is for those who compile against it.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// What is known of a GPU at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceReading {
    /// Its number, as NVML counts.
    pub index: u32,
    /// What all processes hold of it, in bytes.
    pub used_bytes: u64,
    /// What this process holds of it; `None` where it is not listed: it holds nothing, or has another number
    /// outside of its container, or the GPU is divided (MIG) and does not tell.
    pub own_bytes: Option<u64>,
}

/// What a model took of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceMemory {
    /// The GPU's number, as NVML counts.
    pub index: u32,
    /// In bytes. The first model of a process on a GPU has what CUDA takes for itself in it.
    pub bytes: u64,
}

/// All GPUs now; `None` where there is no driver, or it does not answer. It blocks.
pub fn device_readings() -> Option<Vec<DeviceReading>> {
    let nvml = driver()?;
    let devices = 0..nvml.device_count().ok()?;
    // One that does not answer is left out.
    Some(devices.filter_map(|index| reading(index, &nvml.device_by_index(index).ok()?)).collect())
}

/// Share of the last moments in which the GPUs computed, in percent, as a mean of all that this process sees;
/// `None` where there is no driver, or none of them tells.
pub fn device_use_percent() -> Option<u8> {
    let nvml = driver()?;
    let used = |index| nvml.device_by_index(index).ok()?.utilization_rates().ok().map(|rates| rates.gpu);
    let used: Vec<u32> = (0..nvml.device_count().ok()?).filter_map(used).collect();
    let count = u32::try_from(used.len()).ok().filter(|count| *count > 0)?;
    u8::try_from(used.iter().sum::<u32>() / count).ok()
}

/// The driver's library, where it loads.
fn driver() -> Option<&'static Nvml> {
    static LIBRARY_LOADED: OnceLock<Option<Nvml>> = OnceLock::new();
    let nvml = LIBRARY_LOADED.get_or_init(|| {
        let loaded = Nvml::builder().lib_path(LIBRARY.as_ref()).init();
        loaded
            .inspect_err(
                |error| tracing::info!(%error, "memory of GPUs is not measured: {LIBRARY} does not load"),
            )
            .ok()
    });
    nvml.as_ref()
}

fn reading(index: u32, device: &Device<'_>) -> Option<DeviceReading> {
    let used_bytes = device.memory_info().ok()?.used;
    let processes = device.running_compute_processes().unwrap_or_default();
    let own = processes.iter().filter(|process| process.pid == std::process::id());
    let known = own.filter_map(|process| match process.used_gpu_memory {
        UsedGpuMemory::Used(bytes) => Some(bytes),
        UsedGpuMemory::Unavailable => None,
    });
    // Divided GPUs list a process once for each part.
    Some(DeviceReading { index, used_bytes, own_bytes: known.reduce(u64::saturating_add) })
}

/// What was taken between two readings, on the GPU where most was: of this process where any GPU lists it,
/// else of all processes, which then has what others took meanwhile in it. `None` where there is no GPU.
pub fn device_growth(before: &[DeviceReading], after: &[DeviceReading]) -> Option<DeviceMemory> {
    let is_listed = after.iter().any(|reading| reading.own_bytes.is_some());
    let held = |reading: &DeviceReading| match is_listed {
        true => reading.own_bytes.unwrap_or(0),
        false => reading.used_bytes,
    };
    let grown = after.iter().filter(|reading| !is_listed || reading.own_bytes.is_some()).map(|now| {
        let earlier = before.iter().find(|reading| reading.index == now.index);
        // A GPU that has just come was not used before.
        let bytes = held(now).saturating_sub(earlier.map_or(0, held));
        DeviceMemory { index: now.index, bytes }
    });
    // The first of equals.
    grown.reduce(|most, next| if next.bytes > most.bytes { next } else { most })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reading(index: u32, used_bytes: u64, own_bytes: Option<u64>) -> DeviceReading {
        DeviceReading { index, used_bytes, own_bytes }
    }

    #[test]
    fn growth_is_of_this_process_where_the_driver_lists_it() {
        let taken = |before: &[DeviceReading], after: &[DeviceReading]| {
            device_growth(before, after).map(|taken| (taken.index, taken.bytes))
        };
        let none = reading(0, 900, None);
        // The first model on it: what others take at the same time is not its own.
        assert_eq!(taken(&[none], &[reading(0, 5_000, Some(500))]), Some((0, 500)));
        assert_eq!(taken(&[reading(0, 0, Some(500))], &[reading(0, 0, Some(620))]), Some((0, 120)));
        // What another model gave back meanwhile does not make it negative.
        assert_eq!(taken(&[reading(0, 0, Some(500))], &[reading(0, 0, Some(400))]), Some((0, 0)));
        // The one of two GPUs where it is.
        let (before, after) =
            ([none, reading(1, 0, Some(50))], [reading(0, 990, None), reading(1, 0, Some(70))]);
        assert_eq!(taken(&before, &after), Some((1, 20)));
        // Not listed: in a container with numbers of its own, or on a divided GPU.
        let (before, after) = ([none, reading(1, 10, None)], [reading(0, 910, None), reading(1, 40, None)]);
        assert_eq!(taken(&before, &after), Some((1, 30)));
        assert_eq!(taken(&[], &[reading(0, 7, None)]), Some((0, 7)));
        assert_eq!(taken(&[none], &[]), None);
    }

    #[test]
    fn whatever_driver_there_is_this_process_holds_no_more_than_all_do() {
        // No library, no reading: nothing breaks.
        for reading in device_readings().unwrap_or_default() {
            assert!(reading.own_bytes.is_none_or(|own| own <= reading.used_bytes), "{reading:?}");
        }
    }

    proptest! {
        #[test]
        fn no_more_is_taken_than_is_there(
            before in prop::collection::vec((0..4_u32, any::<u64>(), any::<Option<u64>>()), 0..5),
            after in prop::collection::vec((0..4_u32, any::<u64>(), any::<Option<u64>>()), 0..5),
        ) {
            let readings = |all: &[(u32, u64, Option<u64>)]| -> Vec<DeviceReading> {
                all.iter().map(|(index, used, own)| reading(*index, *used, *own)).collect()
            };
            let (before, after) = (readings(&before), readings(&after));
            let taken = device_growth(&before, &after);
            prop_assert_eq!(taken.is_some(), !after.is_empty());
            if let Some(taken) = taken {
                let held = after.iter().filter(|now| now.index == taken.index);
                let most = held.map(|now| now.own_bytes.unwrap_or(0).max(now.used_bytes)).max().unwrap_or(0);
                prop_assert!(taken.bytes <= most);
            }
        }
    }
}
