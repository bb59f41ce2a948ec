//! Paths that come from outside and must stay inside a directory or prefix.

/// Longest path accepted, bytes: what object stores take as a key, less a prefix of ours.
const MAX_PATH_BYTES: usize = 900;

/// Whether `path` is relative, `/`-separated, and stays inside whatever it is joined to; else why not.
pub(crate) fn check_relative(path: &str) -> Result<(), String> {
    if path.is_empty() {
        return Err("must not be empty".into());
    }
    if path.len() > MAX_PATH_BYTES {
        return Err(format!("must be at most {MAX_PATH_BYTES} bytes long"));
    }
    if path.starts_with('/') {
        return Err(format!("must be relative, is '{path}'"));
    }
    if path.contains(['\\', '\0']) || path.chars().any(char::is_control) {
        return Err("must not hold backslashes or control characters".into());
    }
    for segment in path.split('/') {
        match segment {
            "" => return Err(format!("must not hold empty segments, is '{path}'")),
            "." | ".." => return Err(format!("must not hold '{segment}', is '{path}'")),
            _ => {}
        }
    }
    Ok(())
}
