//! From the beginning of an event type to the subjects that NATS delivers.

use slipway_api::events::EVENTS_SUBJECTS;

use crate::error::Error;

const MAX_TYPE_CHARS: usize = 256;

/// The subjects of the event stream on which events of types that begin with `prefix` are published, and
/// perhaps others; none if there are no such events.
///
/// # Errors
/// The prefix has characters that no event type has.
pub(super) fn subjects(prefix: &str) -> Result<Vec<String>, Error> {
    let plain = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    if prefix.len() > MAX_TYPE_CHARS || !prefix.chars().all(plain) {
        let message = format!(
            "expected the beginning of an event type such as slipway.registry.alias., at most \
             {MAX_TYPE_CHARS} characters"
        );
        return Err(Error::invalid("type", message));
    }
    // NATS filters by whole words.
    let words = &prefix[..prefix.rfind('.').map_or(0, |end| end + 1)];
    let within = |subject: &&str| {
        let stored = subject.trim_end_matches('>');
        if words.starts_with(stored) {
            Some(format!("{words}>"))
        } else {
            stored.starts_with(words).then(|| (*subject).to_owned())
        }
    };
    Ok(EVENTS_SUBJECTS.iter().filter_map(within).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_selects_subjects_of_the_stream_only() {
        let of = |prefix: &str| subjects(prefix).unwrap();
        assert_eq!(of(""), EVENTS_SUBJECTS);
        assert_eq!(of("slip"), EVENTS_SUBJECTS);
        assert_eq!(of("slipway.registry.alias.set"), ["slipway.registry.alias.>"]);
        assert_eq!(of("slipway.registry."), ["slipway.registry.>"]);
        assert_eq!(of("slipway.serving."), ["slipway.serving.version.>", "slipway.serving.call.>"]);
        assert_eq!(of("slipway.serving.request."), Vec::<String>::new());
        assert_eq!(of("other."), Vec::<String>::new());
        for wrong in ["slipway.>", "slipway.*", "a b", "ä"] {
            assert!(
                matches!(subjects(wrong), Err(Error::Invalid { field, .. }) if field == "type"),
                "{wrong}"
            );
        }
    }
}
