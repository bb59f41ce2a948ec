//! Random ids.

use uuid::Uuid;

/// A random id (UUID version 4, RFC 9562): nothing about it can be guessed.
#[expect(clippy::disallowed_methods, reason = "the one place that makes random ids")]
pub fn random() -> Uuid {
    Uuid::new_v4()
}

/// An id that sorts by the time at which it was made (UUID version 7, RFC 9562), for keys of tables: new rows
/// are next to each other in an index. It shows that time and is no secret.
#[expect(clippy::disallowed_methods, reason = "the one place that makes random ids")]
pub fn time_ordered() -> Uuid {
    Uuid::now_v7()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_are_of_version_4_and_differ() {
        let ids = [random(), random()];
        assert_ne!(ids[0], ids[1]);
        assert_eq!(ids.map(|id| id.get_version_num()), [4, 4]);
    }

    #[test]
    fn ids_that_are_made_later_sort_behind() {
        let ids: Vec<Uuid> = (0..1_000).map(|_| time_ordered()).collect();
        assert!(ids.is_sorted_by(|earlier, later| earlier < later));
        assert!(ids.iter().all(|id| id.get_version_num() == 7));
    }
}
