//! Names of callers. Roles are granted to a name and the audit trail shows it, so one name has one spelling,
//! and none can be taken for one that has a meaning of its own.
//!
//! Sources: Unicode Technical Standard 39, section 4 (confusable detection, the *skeleton*) and UAX 15
//! (normalisation form NFKC).

use unicode_normalization::UnicodeNormalization as _;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};
use unicode_security::confusable_detection::skeleton;

/// Characters of a principal or a group.
pub const MAX_NAME_CHARS: usize = 256;
/// What a subject begins with that is a group.
pub const GROUP: &str = "group:";
/// The principal of the administrator's token.
pub const ADMIN: &str = "admin";
/// Callers of whom nothing is known.
pub const ANONYMOUS: &str = "anonymous";
/// What the service does by itself.
pub const SYSTEM: &str = "system";
/// The principal of the launcher's token.
pub const LAUNCHER: &str = "launcher";
/// The principal of the token of the other services.
pub const SERVICES: &str = "services";

/// What the principals of training jobs begin with.
pub const JOB: &str = "job:";
/// What the principals of the platform's own services begin with.
pub const SERVICE: &str = "slipway:";
/// The launcher as a caller of other services.
pub const LAUNCHER_SERVICE: &str = "slipway:launcher";
/// Serving as a caller of other services.
pub const SERVING_SERVICE: &str = "slipway:serving";
/// The rollout controller as a caller of other services.
pub const ROLLOUT_CONTROLLER_SERVICE: &str = "slipway:rollout-controller";
/// The drift monitor as a caller of other services.
pub const DRIFT_MONITOR_SERVICE: &str = "slipway:drift-monitor";

const RESERVED: [&str; 5] = [ADMIN, ANONYMOUS, SYSTEM, LAUNCHER, SERVICES];
/// Prefixes of principals that the platform itself gives tokens to.
const PLATFORM: [&str; 2] = [JOB, SERVICE];

/// Why a text is no name for a caller, for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(String);

/// The name of a principal: of an identity token's holder, and of tokens and grants that an administrator
/// makes.
///
/// # Errors
/// It is empty, too long, has another spelling or invisible characters, or is or looks like a reserved name.
pub fn validate_principal(name: &str) -> Result<(), Unusable> {
    validate_name(name)?;
    let folded = folded(name);
    if let Some(reserved) = RESERVED.iter().find(|reserved| folded == skeleton_of(reserved)) {
        return Err(Unusable(if name == *reserved {
            format!("'{name}' is reserved; choose another name")
        } else {
            format!("'{}' can be taken for the reserved name '{reserved}'; choose another name", shown(name))
        }));
    }
    if folded.starts_with(&skeleton_of(GROUP)) {
        return Err(Unusable(format!(
            "'{}' can be taken for a group: expected a name that does not begin with '{GROUP}'",
            shown(name)
        )));
    }
    match PLATFORM.iter().find(|prefix| folded.starts_with(&skeleton_of(prefix))) {
        None => Ok(()),
        Some(prefix) => {
            Err(Unusable(format!("names that begin with '{prefix}' are reserved for this platform")))
        }
    }
}

/// Whom a role is granted to: a principal, or `group:<name>`.
///
/// # Errors
/// It is neither.
pub fn validate_subject(subject: &str) -> Result<(), Unusable> {
    match subject.strip_prefix(GROUP) {
        Some(group) => {
            validate_name(group).map_err(|Unusable(why)| Unusable(format!("the group's name: {why}")))
        }
        None => validate_principal(subject),
    }
}

/// The spelling alone.
///
/// # Errors
/// It is empty, too long, has another spelling or invisible characters.
fn validate_name(name: &str) -> Result<(), Unusable> {
    if name.trim().is_empty() || name.chars().count() > MAX_NAME_CHARS {
        return Err(Unusable(format!("expected 1 to {MAX_NAME_CHARS} visible characters")));
    }
    if let Some(odd) = name.chars().find(|letter| is_invisible(*letter)) {
        return Err(Unusable(format!(
            "'{}' contains the character U+{:04X}; expected visible characters and single spaces between \
             them",
            shown(name),
            u32::from(odd)
        )));
    }
    if name.trim() != name || name.contains("  ") {
        return Err(Unusable(format!(
            "'{name}' begins or ends with a space, or has two in a row; leave them out"
        )));
    }
    let usual: String = name.nfkc().collect();
    if usual != name {
        return Err(Unusable(format!(
            "'{}' has another spelling, '{}'; use that one",
            shown(name),
            shown(&usual)
        )));
    }
    Ok(())
}

/// Controls, formats (zero width, direction), separators but the space, and what has no meaning: unassigned,
/// private, surrogate.
fn is_invisible(letter: char) -> bool {
    use GeneralCategory as Is;
    let blank = matches!(letter.general_category(), Is::SpaceSeparator) && letter != ' ';
    // Drawn as nothing, whatever their category.
    let filler = matches!(letter,
        '\u{034F}' | '\u{115F}' | '\u{1160}' | '\u{2800}' | '\u{3164}' | '\u{FFA0}'
            | '\u{FE00}'..='\u{FE0F}' | '\u{E0100}'..='\u{E01EF}');
    let meaningless = matches!(
        letter.general_category(),
        Is::Control
            | Is::Format
            | Is::LineSeparator
            | Is::ParagraphSeparator
            | Is::Unassigned
            | Is::PrivateUse
            | Is::Surrogate
    );
    blank || filler || meaningless
}

/// What a name looks like to a person who reads past case.
fn folded(name: &str) -> String {
    // Case first, since capitals have skeletons of their own; and again, since skeletons may bring capitals
    // in.
    skeleton_of(&skeleton_of(name))
}

fn skeleton_of(name: &str) -> String {
    let lower = name.to_lowercase();
    skeleton(&lower).collect::<String>().to_lowercase()
}

/// A name in a message, without what could change the message around it.
fn shown(name: &str) -> String {
    name.chars()
        .take(MAX_NAME_CHARS)
        .flat_map(|letter| {
            let escaped = is_invisible(letter);
            let plain = (!escaped).then_some(letter);
            plain.into_iter().chain(escaped.then(|| letter.escape_unicode()).into_iter().flatten())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_are_names() {
        for name in [
            "ann",
            "ann.smith@example.org",
            "Ann Smith",
            "jürgen",
            "李雷",
            "auth0|5f7c8ec7c33c6c004bbafe82",
            "CN=ann,OU=data",
            "/teams/data",
            "administrators",
            "admin2",
            "sysadmin",
            "мария",
            "job-runner",
        ] {
            assert_eq!(validate_principal(name), Ok(()), "{name}");
        }
        assert_eq!(validate_subject("group:/data science"), Ok(()));
    }

    #[test]
    fn reserved_names_and_their_doubles_are_refused() {
        for name in [
            "admin",
            "Admin",
            "ADMIN",
            "аdmin",
            "\u{430}dm\u{456}n",
            "adm\u{131}n",
            "ＡＤＭＩＮ",
            "admın",
            "anonymous",
            "ANONYMOUS",
            "System",
            "ѕуѕtеm",
            "Launcher",
            "services",
            "job:42",
            "Job:42",
            "jоb:42",
            "slipway:launcher",
            "group:science",
            "Group:science",
            "grоup:science",
        ] {
            assert!(validate_principal(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_name_has_one_spelling_and_is_visible() {
        let long = "x".repeat(MAX_NAME_CHARS + 1);
        for name in [
            "",
            " ",
            " admin",
            "ann ",
            "\tann",
            "ann\n",
            "an\0n",
            "a\u{1b}[31mnn",
            "an\u{200b}n",
            "an\u{202e}n",
            "\u{feff}ann",
            "an\u{ad}n",
            "an\u{a0}n",
            "a  b",
            "an\u{3164}n",
            "ju\u{308}rgen",
            "ﬁn",
            &long,
        ] {
            let why = validate_principal(name).unwrap_err().to_string();
            assert!(!why.chars().any(char::is_control), "{why:?}");
            assert!(validate_subject(&format!("group:{name}")).is_err(), "{name:?}");
        }
        assert!(validate_principal("an\u{200b}n").unwrap_err().to_string().contains("U+200B"));
    }
}
