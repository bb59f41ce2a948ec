//! Room in memory and on disk.

use std::collections::BTreeSet;

use slipway_api::traffic::VersionState;

use super::super::gate::GATE;
use super::super::memory::{Held, to_unload};
use super::super::meters::Unload;
use super::super::slots::Slot;
use super::Manager;

impl Manager {
    /// Loads a version that was unloaded: a request waits for it.
    pub(super) fn demand(&mut self, digest: &str) {
        let Some(slot) = self.slots.get(digest).filter(|slot| !slot.is_loading()) else { return };
        if slot.state != VersionState::Ready || slot.resident.served().is_some() {
            return;
        }
        let coming = slot.resident.described().map_or(0, |described| described.memory.bytes);
        self.relieve(coming, Some(digest));
        self.begin(digest);
    }

    /// Unloads versions until those in memory, and what is about to come, take no more than they may. `keep`
    /// stays, or else what was used last: a version that is larger than the limit must not be loaded for each
    /// request again.
    pub(super) fn relieve(&mut self, coming_bytes: u64, keep: Option<&str>) {
        let Some(limit_bytes) = self.loader.limits().memory_bytes else { return };
        let bytes = |slot: &Slot| slot.resident.served().map_or(0, |served| served.described.memory.bytes);
        let in_memory = self.slots.iter().filter(|(_, slot)| bytes(slot) > 0);
        let newest = in_memory.max_by_key(|(_, slot)| slot.resident.last_used_ms());
        let newest = newest.map(|(digest, _)| digest.clone());
        let keep = keep.or(newest.as_deref());
        let held: Vec<Held> = self
            .slots
            .iter()
            .filter_map(|(digest, slot)| {
                let bytes = slot.resident.served()?.described.memory.bytes;
                let pinned = keep == Some(digest) || slot.resident.is_busy();
                let last_used_ms = slot.resident.last_used_ms();
                Some(Held { digest: digest.clone(), bytes, last_used_ms, spare: slot.spare, pinned })
            })
            .collect();
        let unloaded = to_unload(&held, coming_bytes, limit_bytes);
        if unloaded.is_empty() {
            return;
        }
        let mut gone = Vec::new();
        for digest in unloaded {
            let Some(slot) = self.slots.get(&digest) else { continue };
            let (model, version, spare) = (&slot.model, &slot.target.version, slot.spare);
            tracing::info!(model, version, digest, spare, limit_bytes, "version evicted: memory limit");
            self.load_meters.unloaded(Unload::MemoryLimit);
            if slot.spare {
                for deployment in self.deployments.values_mut() {
                    deployment.spares.retain(|spare| spare.digest != digest);
                }
                self.slots.remove(&digest);
            } else {
                gone.extend(slot.resident.empty());
            }
        }
        let leaving = GATE.announce();
        // It takes a while, and waits for the load that runs.
        tokio::task::spawn_blocking(move || leaving.free(gone));
        self.show_memory();
    }

    /// Keeps the disk cache within its limit. What is loaded, or about to be, stays.
    pub(super) async fn make_room(&self) {
        let Some((cache, limit_bytes)) = self.loader.cache().cloned().zip(self.loader.limits().cache_bytes)
        else {
            return;
        };
        let wanted: BTreeSet<String> = self.slots.keys().cloned().collect();
        match tokio::task::spawn_blocking(move || cache.evict(limit_bytes, &wanted)).await {
            Ok(Ok(held)) if held > limit_bytes => {
                tracing::warn!(held, limit_bytes, "versions in use exceed the limit of the disk cache");
            }
            Ok(Err(error)) => tracing::warn!(%error, "no space could be freed in the disk cache"),
            _ => {}
        }
    }
}
