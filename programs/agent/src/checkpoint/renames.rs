//! Sees names appear in the checkpoint folder by renaming, which is how a command says that what it wrote is
//! whole.

use std::collections::BTreeSet;
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// Names that were renamed into place. Where the kernel cannot be asked, it stays empty and time decides.
#[derive(Debug)]
pub(super) struct Renames {
    events: Option<Inotify>,
    moved: BTreeSet<String>,
}

impl Renames {
    /// Watches the top of a folder from now on.
    pub(super) fn watch(folder: &Path) -> Self {
        let watched = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).and_then(|events| {
            let kinds = AddWatchFlags::IN_MOVE | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE;
            events.add_watch(folder, kinds).map(|_| events)
        });
        let events = match watched {
            Ok(events) => Some(events),
            Err(error) => {
                tracing::debug!(%error, "checkpoint folder cannot be watched; polling instead");
                None
            }
        };
        Self { events, moved: BTreeSet::new() }
    }

    /// Names that are there by renaming as of now.
    pub(super) fn take(&mut self) -> BTreeSet<String> {
        // Not blocking: it fails once no event is left.
        while let Some(events) = self.events.as_ref().and_then(|events| events.read_events().ok()) {
            for event in events {
                if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    self.moved.clear();
                }
                let Some(name) = event.name.and_then(|name| name.into_string().ok()) else { continue };
                if event.mask.contains(AddWatchFlags::IN_MOVED_TO) {
                    self.moved.insert(name);
                } else {
                    self.moved.remove(&name);
                }
            }
        }
        self.moved.clone()
    }
}
