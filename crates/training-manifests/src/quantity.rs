//! Quantities of Kubernetes.
//!
//! Source: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.

use serde_json::Value;

const SUFFIXES: [(&str, f64); 16] = [
    ("Ki", 1_024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
    ("", 1.0),
];

/// The number that a quantity stands for, such as `500m`, `16Gi`, `1e3` or `2`.
pub fn number(quantity: &Value) -> Option<f64> {
    let text = match quantity {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let split = |suffix: &str| {
        let digits = text.strip_suffix(suffix)?;
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| b"0123456789.+-eE".contains(&byte));
        digits.parse::<f64>().ok().filter(|_| is_number)
    };
    let found = SUFFIXES.iter().find_map(|&(suffix, factor)| Some(split(suffix)? * factor))?;
    (found.is_finite() && found >= 0.0).then_some(found)
}

/// A whole number of bytes or devices; fractions are rounded up, as Kubernetes does.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
pub fn whole(quantity: &Value) -> Option<u64> {
    const MAX: f64 = 9_007_199_254_740_992.0;
    let number = number(quantity)?.ceil();
    (number <= MAX).then_some(number as u64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (quantity, expected) in [
            (json!("500m"), 0.5),
            (json!("2"), 2.0),
            (json!(2), 2.0),
            (json!(0.5), 0.5),
            (json!("1.5"), 1.5),
            (json!("1e3"), 1_000.0),
            (json!("16Gi"), 17_179_869_184.0),
            (json!("1G"), 1e9),
            (json!("100k"), 1e5),
            (json!("2E"), 2e18),
        ] {
            assert_eq!(number(&quantity), Some(expected), "{quantity}");
        }
        for quantity in
            [json!(""), json!("Gi"), json!("1GB"), json!("-1"), json!("inf"), json!(null), json!("0x1")]
        {
            assert_eq!(number(&quantity), None, "{quantity}");
        }
        assert_eq!(whole(&json!("1500m")), Some(2));
        assert_eq!(whole(&json!("100E")), None);
    }
}
