//! Unpacks layers, as they come, in a thread of its own: decompressing takes time.

use std::io::{self, Read};

use bytes::Bytes;
use futures::TryStreamExt as _;
use slipway_domain::registry::new_artifact_path;
use tokio::sync::mpsc;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::oci::Archive;
use super::stream::Bytestream;
use super::tar::{Kind, Member, Reader};

/// Bytes that are handed on together.
const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks and members that wait to be stored.
const WAITING: usize = 4;
/// Members of an archive, most of which may be outside of the imported folder.
const MAX_MEMBERS: usize = 1_000_000;
/// Begins the name of a file that says that a layer before has lost the file of the rest of the name…
const WHITEOUT: &str = ".wh.";
/// …and names one that says so of everything in its folder.
const OPAQUE: &str = ".wh..wh..opq";

/// The content of a file.
pub(super) type Chunks = mpsc::Receiver<Result<Bytes, String>>;

/// What an archive says, in its order.
#[derive(Debug)]
pub(super) enum Change {
    /// There is a file.
    File { path: String, size_bytes: u64, chunks: Chunks },
    /// What layers before have at this path, or below it, is removed.
    Removed { path: String },
    /// What layers before have in this folder is removed; empty: the whole of it.
    Emptied { folder: String },
}

/// The changes of an archive, whose compressed bytes come from `bytes`. The last one may be an error.
pub(super) fn unpack(
    bytes: Bytestream,
    archive: &Archive,
    max_bytes: u64,
) -> mpsc::Receiver<Result<Change, String>> {
    let (changes, received) = mpsc::channel(WAITING);
    let bytes = StreamReader::new(bytes.map_err(io::Error::other));
    let (input, is_gzip, folder) = (SyncIoBridge::new(bytes), archive.is_gzip, archive.folder);
    tokio::task::spawn_blocking(move || {
        let unpacking = Unpacking { changes, folder, rest_bytes: max_bytes, max_bytes };
        unpacking.run(input, is_gzip);
    });
    received
}

struct Unpacking {
    changes: mpsc::Sender<Result<Change, String>>,
    folder: &'static str,
    /// Unpacked bytes that may still come.
    rest_bytes: u64,
    max_bytes: u64,
}

/// Why unpacking ended early.
enum Ended {
    /// The receiver has given up.
    Unwanted,
    Failed(String),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Unpacking {
    fn run(mut self, mut input: impl Read, is_gzip: bool) {
        let unpacked = match is_gzip {
            true => self.members(flate2::read::MultiGzDecoder::new(&mut input)),
            false => self.members(&mut input),
        };
        // The digest is checked at the end of the bytes.
        let rest = unpacked.and_then(|()| Ok(io::copy(&mut input, &mut io::sink())?));
        if let Err(Ended::Failed(problem)) = rest {
            let _ = self.changes.blocking_send(Err(problem));
        }
    }

    fn members(&mut self, input: impl Read) -> Result<(), Ended> {
        let mut reader = Reader::new(input);
        let mut count = 0;
        while let Some(member) = reader.next()? {
            count += 1;
            if count > MAX_MEMBERS {
                return Err(Ended::Failed(format!("an archive has more than {MAX_MEMBERS} entries")));
            }
            let rest_bytes = self.rest_bytes.checked_sub(member.size_bytes);
            self.rest_bytes = rest_bytes.ok_or_else(|| {
                Ended::Failed(format!(
                    "more than {} bytes (SLIPWAY_IMPORT_MAX_BYTES) are in the archives",
                    self.max_bytes
                ))
            })?;
            self.member(&member, &mut reader)?;
        }
        Ok(())
    }

    fn member(&self, member: &Member, reader: &mut Reader<impl Read>) -> Result<(), Ended> {
        if removes(&member.path, self.folder) {
            return self.send(Change::Emptied { folder: String::new() });
        }
        let Some(path) = within(&member.path, self.folder) else { return Ok(()) };
        match member.kind {
            Kind::Folder => return Ok(()),
            Kind::File => {}
            Kind::Link => {
                return Err(Ended::Failed(format!("`{}` is a link; links are not followed", member.path)));
            }
            Kind::Other => {
                return Err(Ended::Failed(format!("`{}` is neither a file nor a folder", member.path)));
            }
        }
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
        if name == OPAQUE {
            return self.send(Change::Emptied { folder: parent.to_owned() });
        }
        if let Some(removed) = name.strip_prefix(WHITEOUT) {
            let path = if parent.is_empty() { removed.to_owned() } else { format!("{parent}/{removed}") };
            return self.send(Change::Removed { path: checked(&path)? });
        }
        let (sender, chunks) = mpsc::channel(WAITING);
        self.send(Change::File { path: checked(&path)?, size_bytes: member.size_bytes, chunks })?;
        let sent = send_content(reader, &sender);
        if let Err(Ended::Failed(problem)) = &sent {
            // Without the error, the file would be taken for a shorter one.
            let _ = sender.blocking_send(Err(problem.clone()));
        }
        sent
    }

    fn send(&self, change: Change) -> Result<(), Ended> {
        self.changes.blocking_send(Ok(change)).map_err(|_| Ended::Unwanted)
    }
}

fn send_content(
    reader: &mut Reader<impl Read>,
    sender: &mpsc::Sender<Result<Bytes, String>>,
) -> Result<(), Ended> {
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        let count = reader.read(&mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        chunk.truncate(count);
        sender.blocking_send(Ok(chunk.into())).map_err(|_| Ended::Unwanted)?;
    }
}

/// The path of a member within a folder of its archive; `None` outside of it, and for the folder itself.
fn within(member: &str, folder: &str) -> Option<String> {
    let path = member.strip_prefix("./").unwrap_or(member);
    // Within an image, paths from the root and those without it are the same.
    let path = if folder.is_empty() { path } else { path.strip_prefix('/').unwrap_or(path) };
    if path.is_empty() || path == "." {
        return None;
    }
    let is_folder = format!("{path}/") == folder;
    // A link in the place of the folder would hide it.
    if is_folder {
        return Some(path.to_owned());
    }
    path.strip_prefix(folder).filter(|path| !path.is_empty()).map(str::to_owned)
}

/// Whether a member says that the imported folder of the layers before is removed as a whole.
fn removes(member: &str, folder: &str) -> bool {
    let path = member.trim_start_matches("./").trim_start_matches('/');
    let name = folder.trim_end_matches('/');
    !name.is_empty() && (path == OPAQUE || path.strip_prefix(WHITEOUT) == Some(name))
}

fn checked(path: &str) -> Result<String, Ended> {
    new_artifact_path(path).map_err(|invalid| Ended::Failed(format!("the archive has `{path}`: {invalid}")))
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt as _, stream};

    use super::*;
    use crate::imports::oci::Blob;

    /// A ustar archive of these members: their path, their kind and their content.
    fn archive(members: &[(&str, u8, &[u8])]) -> Vec<u8> {
        let mut all = Vec::new();
        for (path, kind, content) in members {
            let mut header = [0_u8; 512];
            header[..path.len()].copy_from_slice(path.as_bytes());
            header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
            header[148..156].fill(b' ');
            header[156] = *kind;
            header[257..263].copy_from_slice(b"ustar\0");
            let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
            header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
            all.extend_from_slice(&header);
            all.extend_from_slice(content);
            all.resize(all.len().next_multiple_of(512), 0);
        }
        all.resize(all.len() + 1_024, 0);
        all
    }

    /// What comes of an archive, as text.
    async fn changes(tar: Vec<u8>, folder: &'static str, max_bytes: u64) -> Vec<String> {
        let blob = Blob::of_test();
        let archive = Archive { blob, is_gzip: false, folder };
        let chunks: Vec<Result<Bytes, String>> =
            tar.chunks(100).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        let mut received = unpack(stream::iter(chunks).boxed(), &archive, max_bytes);
        let mut all = Vec::new();
        while let Some(change) = received.recv().await {
            all.push(match change {
                Ok(Change::File { path, size_bytes, mut chunks }) => {
                    let mut content = Vec::new();
                    while let Some(chunk) = chunks.recv().await {
                        match chunk {
                            Ok(chunk) => content.extend_from_slice(&chunk),
                            Err(problem) => content = problem.into_bytes(),
                        }
                    }
                    format!("{path} {size_bytes}: {}", String::from_utf8_lossy(&content))
                }
                Ok(Change::Removed { path }) => format!("removed {path}"),
                Ok(Change::Emptied { folder }) => format!("emptied {folder}"),
                Err(problem) => format!("problem: {problem}"),
            });
        }
        all
    }

    #[tokio::test]
    async fn of_an_image_only_the_folder_of_models_counts() {
        let layer = archive(&[
            ("bin/sh", b'2', b""),
            ("models/", b'5', b""),
            ("models/1/model.onnx", b'0', b"onnx"),
            ("/models/.wh.old.onnx", b'0', b""),
            ("./models/2/.wh..wh..opq", b'0', b""),
            ("models-2/other", b'0', b"x"),
            (".wh.models", b'0', b""),
            (".wh.models-2", b'0', b""),
        ]);
        let expected = ["1/model.onnx 4: onnx", "removed old.onnx", "emptied 2", "emptied "];
        assert_eq!(changes(layer, "models/", 100).await, expected);
    }

    #[tokio::test]
    async fn paths_that_lead_out_links_and_devices_are_refused() {
        for (path, kind, text) in [
            ("../evil", b'0', "problem: the archive has `../evil`"),
            ("a/../../evil", b'0', "problem: the archive has `a/../../evil`"),
            ("/etc/passwd", b'0', "problem: the archive has `/etc/passwd`"),
            (".wh...", b'0', "problem: the archive has `..`"),
            ("m.onnx", b'2', "problem: `m.onnx` is a link; links are not followed"),
            ("m.onnx", b'1', "problem: `m.onnx` is a link; links are not followed"),
            ("null", b'3', "problem: `null` is neither a file nor a folder"),
        ] {
            let found = changes(archive(&[(path, kind, b"")]), "", 100).await;
            assert!(found.len() == 1 && found[0].starts_with(text), "{path}: {found:?}");
        }
        let link = changes(archive(&[("models", b'2', b"")]), "models/", 100).await;
        assert_eq!(link, ["problem: `models` is a link; links are not followed"]);
    }

    #[tokio::test]
    async fn sizes_are_bounded_and_a_truncated_file_is_an_error() {
        let two = archive(&[("a", b'0', &[b'a'; 60]), ("b", b'0', &[b'b'; 60])]);
        let found = changes(two.clone(), "", 100).await;
        assert!(found[1].contains("more than 100 bytes (SLIPWAY_IMPORT_MAX_BYTES)"), "{found:?}");
        let found = changes(two[..540].to_vec(), "", 100).await;
        assert_eq!(found[0], "a 60: the archive ends within a file");
    }
}
