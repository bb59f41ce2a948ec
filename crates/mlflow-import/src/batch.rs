//! Fills log-batch requests up to the limits of the protocol.

use serde_json::{Value, json};

const MAX_ENTITIES: usize = 1_000;
const MAX_PARAMS: usize = 100;
const MAX_TAGS: usize = 100;
/// Below the protocol's megabyte, with room for the frame.
const MAX_BYTES: usize = 900_000;

/// What an entity of a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entity {
    Param,
    Tag,
    Metric,
}

/// A batch for one run.
#[derive(Debug)]
pub(crate) struct Batch {
    run_id: String,
    params: Vec<Value>,
    tags: Vec<Value>,
    metrics: Vec<Value>,
    bytes: usize,
}

impl Batch {
    pub(crate) fn new(run_id: &str) -> Self {
        Self { run_id: run_id.to_owned(), params: vec![], tags: vec![], metrics: vec![], bytes: 0 }
    }

    /// Adds an entity. Where there is no room left, answers with the full body, and begins the next batch.
    pub(crate) fn push(&mut self, entity: Entity, value: Value) -> Option<Value> {
        let bytes = value.to_string().len() + 1;
        let full = self.params.len() + self.tags.len() + self.metrics.len() == MAX_ENTITIES
            || (self.bytes > 0 && self.bytes + bytes > MAX_BYTES)
            || (entity == Entity::Param && self.params.len() == MAX_PARAMS)
            || (entity == Entity::Tag && self.tags.len() == MAX_TAGS);
        let body = if full { self.take() } else { None };
        match entity {
            Entity::Param => self.params.push(value),
            Entity::Tag => self.tags.push(value),
            Entity::Metric => self.metrics.push(value),
        }
        self.bytes += bytes;
        body
    }

    /// What is in it so far, if anything.
    pub(crate) fn take(&mut self) -> Option<Value> {
        if self.bytes == 0 {
            return None;
        }
        let taken = std::mem::replace(self, Self::new(&self.run_id));
        Some(json!({
            "run_id": taken.run_id, "params": taken.params, "tags": taken.tags, "metrics": taken.metrics,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All bodies that come of these entities.
    fn bodies(entities: impl IntoIterator<Item = (Entity, Value)>) -> Vec<Value> {
        let mut batch = Batch::new("r");
        let mut bodies: Vec<Value> =
            entities.into_iter().filter_map(|(entity, value)| batch.push(entity, value)).collect();
        bodies.extend(batch.take());
        bodies
    }

    fn length(body: &Value, field: &str) -> usize {
        body[field].as_array().unwrap().len()
    }

    #[test]
    fn long_histories_go_in_thousands() {
        let bodies = bodies((0..2_500).map(|step| (Entity::Metric, json!({"key": "loss", "step": step}))));
        let lengths: Vec<usize> = bodies.iter().map(|body| length(body, "metrics")).collect();
        assert_eq!(lengths, [1_000, 1_000, 500]);
        assert_eq!(bodies[2]["metrics"][499]["step"], 2_499);
    }

    #[test]
    fn each_kind_has_its_own_limit_and_bytes_have_theirs() {
        let params = (0..101).map(|number| (Entity::Param, json!({"key": number})));
        let mixed: Vec<(Entity, Value)> = params
            .chain([(Entity::Tag, json!({"key": "t"})), (Entity::Metric, json!({"key": "m"}))])
            .collect();
        let made = bodies(mixed);
        assert_eq!(made.len(), 2);
        assert_eq!((length(&made[0], "params"), length(&made[1], "params")), (100, 1));
        assert_eq!((length(&made[1], "tags"), length(&made[1], "metrics")), (1, 1));

        let long = "x".repeat(400_000);
        assert_eq!(bodies((0..3).map(|_| (Entity::Param, json!({"value": long})))).len(), 2);
        assert!(bodies([]).is_empty());
    }
}
