//! Which entries of a checkpoint folder are checkpoints, and of which step.
//!
//! Training libraries do not agree on names. These are recognised, for files and for folders:
//!
//! | written by | names |
//! |---|---|
//! | plain PyTorch | `500`, `step_500`, `ckpt_500.pt`, `model-epoch-3.pth`, `checkpoint.pt` |
//! | Hugging Face Trainer | `checkpoint-500/` |
//! | Lightning | `epoch=1-step=500.ckpt`, `epoch=1.ckpt`, `last.ckpt` |
//! | DeepSpeed | `global_step500/` and the file `latest` |
//! | TensorFlow | `ckpt-5.index`, `ckpt-5.data-00000-of-00001` and the file `checkpoint` |

/// What a name says about an entry of the checkpoint folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Naming {
    /// Part of the checkpoint of this step. All entries of one step are one checkpoint.
    Step(u64),
    /// Belongs to the newest checkpoint without a step in its name, such as `last.ckpt` or `latest`.
    Companion,
    /// Not finished yet, or meant to be overlooked: `500.tmp`, `.cache`.
    Temporary,
    /// Not recognised as a checkpoint.
    Other,
}

/// What lies under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
}

/// Words that are followed by the number that orders checkpoints best, the best ones first.
const ORDERING_WORDS: [&str; 5] = ["step", "steps", "iteration", "iter", "epoch"];
/// Endings of names that are not final.
const TEMPORARY_ENDINGS: [&str; 8] =
    [".tmp", ".temp", ".part", ".partial", ".incomplete", ".lock", ".swp", "~"];
const TEMPORARY_BEGINNINGS: [&str; 5] = [".", "tmp-", "tmp_", "temp-", "__"];
/// First words of names without a step that checkpoints have.
const ROLLING_WORDS: [&str; 6] = ["last", "latest", "best", "newest", "checkpoint", "ckpt"];
/// File name extensions under which weights and states are stored.
const STATE_EXTENSIONS: [&str; 13] = [
    "pt",
    "pth",
    "ckpt",
    "safetensors",
    "pkl",
    "pickle",
    "joblib",
    "npz",
    "npy",
    "h5",
    "keras",
    "msgpack",
    "bin",
];

/// Reads the name of an entry of the checkpoint folder.
pub fn classify(name: &str, kind: EntryKind) -> Naming {
    let lower = name.to_ascii_lowercase();
    let is_temporary = TEMPORARY_ENDINGS.iter().any(|ending| lower.ends_with(ending))
        || TEMPORARY_BEGINNINGS.iter().any(|beginning| lower.starts_with(beginning));
    if is_temporary {
        return Naming::Temporary;
    }
    if let Some(step) = step_of(&lower) {
        return Naming::Step(step);
    }
    let first_word = lower.split(|character: char| !character.is_ascii_alphabetic()).next().unwrap_or("");
    let is_state = lower.rsplit_once('.').is_some_and(|(_, extension)| STATE_EXTENSIONS.contains(&extension));
    let is_rolling = ROLLING_WORDS.contains(&first_word);
    // A folder without a step may be anything; a file with such an extension is a state or weights.
    if is_rolling || (is_state && kind != EntryKind::Folder) { Naming::Companion } else { Naming::Other }
}

/// The step in a name of lower-case letters.
fn step_of(name: &str) -> Option<u64> {
    let words = numbered_words(name);
    let ordered = ORDERING_WORDS.iter().find_map(|wanted| {
        let found = words.iter().find(|(word, _)| word == wanted || word.ends_with(&format!("_{wanted}")));
        found.map(|(_, number)| *number)
    });
    ordered.or_else(|| trailing_number(name))
}

/// Each word that a number follows directly or after `=`, `-` or `_`, e.g. `epoch` and 3 in
/// `epoch=3-loss=0.2`.
fn numbered_words(name: &str) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    let bytes = name.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let word_end =
            at + bytes[at..].iter().take_while(|byte| byte.is_ascii_alphabetic() || **byte == b'_').count();
        if word_end == at {
            at += 1;
            continue;
        }
        let digits_start = word_end + usize::from(matches!(bytes.get(word_end), Some(b'=' | b'-')));
        let digits = bytes[digits_start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let word = name[at..word_end].trim_matches('_');
        if let Ok(number) = name[digits_start..digits_start + digits].parse() {
            found.push((word.to_owned(), number));
        }
        at = (digits_start + digits).max(word_end);
    }
    found
}

/// The number at the end of a name, before its extensions: `500`, `checkpoint-500`, `model_500.pt`.
fn trailing_number(name: &str) -> Option<u64> {
    let stem = name.split('.').next().unwrap_or(name);
    if let Some((_, count)) = stem.rsplit_once("-of-")
        && count.bytes().all(|byte| byte.is_ascii_digit())
    {
        // `model-00001-of-00002`: a part of a file, not a step.
        return None;
    }
    let text = stem.trim_end_matches(|character: char| character.is_ascii_digit());
    let separated = text.is_empty()
        || text.ends_with(['-', '_', '='])
        || ROLLING_WORDS.iter().any(|word| text.ends_with(word));
    if separated { stem[text.len()..].parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_names_of_training_libraries_are_recognised() {
        use EntryKind::{File, Folder, Link};
        let cases = [
            ("500", Folder, Naming::Step(500)),
            ("000000000500", Folder, Naming::Step(500)),
            ("checkpoint-500", Folder, Naming::Step(500)),
            ("checkpoint_7", File, Naming::Step(7)),
            ("epoch=1-step=500.ckpt", File, Naming::Step(500)),
            ("epoch=1-step=500-v1.ckpt", File, Naming::Step(500)),
            ("epoch=1-val_loss=0.32.ckpt", File, Naming::Step(1)),
            ("mnist-epoch=02-val_loss=0.32.ckpt", File, Naming::Step(2)),
            ("epoch=1.ckpt", File, Naming::Step(1)),
            ("global_step500", Folder, Naming::Step(500)),
            ("step_500", Folder, Naming::Step(500)),
            ("model-epoch-3.pth", File, Naming::Step(3)),
            ("iter_0001000", Folder, Naming::Step(1_000)),
            ("ckpt_100.pt", File, Naming::Step(100)),
            ("ckpt100.pt", File, Naming::Step(100)),
            ("model_100.pt", File, Naming::Step(100)),
            ("ckpt-5.index", File, Naming::Step(5)),
            ("ckpt-5.data-00000-of-00001", File, Naming::Step(5)),
            ("Checkpoint-12", Folder, Naming::Step(12)),
            ("last.ckpt", Link, Naming::Companion),
            ("last-v1.ckpt", File, Naming::Companion),
            ("latest", File, Naming::Companion),
            ("best.pt", File, Naming::Companion),
            ("checkpoint", File, Naming::Companion),
            ("model.safetensors", File, Naming::Companion),
            ("model-00001-of-00002.safetensors", File, Naming::Companion),
            ("resnet50.pt", File, Naming::Companion),
            ("5.tmp", Folder, Naming::Temporary),
            ("tmp-checkpoint-5", Folder, Naming::Temporary),
            (".nfs000001", File, Naming::Temporary),
            ("runs", Folder, Naming::Other),
            ("README.md", File, Naming::Other),
            ("weights", Folder, Naming::Other),
            ("99999999999999999999999", Folder, Naming::Other),
        ];
        for (name, kind, expected) in cases {
            assert_eq!(classify(name, kind), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_name_is_read(name in "\\PC{0,40}") {
            for kind in [EntryKind::File, EntryKind::Folder, EntryKind::Link] {
                let _ = classify(&name, kind);
            }
        }

        #[test]
        fn a_number_alone_or_after_a_separator_is_the_step(step in any::<u64>(),
            prefix in "(model-|ckpt_|checkpoint-|step=|)") {
            prop_assert_eq!(classify(&format!("{prefix}{step}"), EntryKind::Folder), Naming::Step(step));
        }
    }
}
