//! Names of fields as Kubernetes writes them.
//!
//! Source: <https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md>.

/// Suffixes with a unit. Sizes are quantities, whose unit is in the value.
const UNITS: [(&str, &str); 3] = [("_bytes", ""), ("_ms", "Milliseconds"), ("_s", "Seconds")];

/// The name of a field of a REST body in a resource: `node_selector` → `nodeSelector`,
/// `timeout_s` → `timeoutSeconds`, `memory_bytes` → `memory`.
pub(crate) fn field(json_name: &str) -> String {
    let with_unit = UNITS.iter().find_map(|&(suffix, unit)| Some((json_name.strip_suffix(suffix)?, unit)));
    let (stem, unit) = with_unit.unwrap_or((json_name, ""));
    let mut words = stem.split('_');
    let mut name = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    name.push_str(unit);
    name
}

/// Whether the field holds a size in bytes.
pub(crate) fn is_size(json_name: &str) -> bool {
    json_name.ends_with("_bytes")
}

/// A description whose `code` names fields as the resource does.
pub(crate) fn description(text: &str) -> String {
    let renamed = |(index, part): (usize, &str)| match index % 2 {
        1 if is_path(part) => path(part),
        _ => part.replace('\n', " "),
    };
    text.split('`').enumerate().map(renamed).collect::<Vec<_>>().join("`")
}

fn is_path(code: &str) -> bool {
    !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_lowercase() || b"_.".contains(&byte))
}

fn path(code: &str) -> String {
    let code = code.strip_prefix("kubernetes.").unwrap_or(code);
    code.split('.').map(field).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_named_as_kubernetes_names_its_own() {
        for (json_name, expected) in [
            ("image", "image"),
            ("gpu_claim_template", "gpuClaimTemplate"),
            ("timeout_s", "timeoutSeconds"),
            ("backoff_max_ms", "backoffMaxMilliseconds"),
            ("memory_bytes", "memory"),
            ("observedGeneration", "observedGeneration"),
        ] {
            assert_eq!(field(json_name), expected);
        }
    }

    #[test]
    fn descriptions_name_the_fields_of_the_resource() {
        let text = "Must exceed\n`resources.memory_bytes`; exactly one of `config_map` and `SLIPWAY_X`.";
        let expected = "Must exceed `resources.memory`; exactly one of `configMap` and `SLIPWAY_X`.";
        assert_eq!(description(text), expected);
    }
}
