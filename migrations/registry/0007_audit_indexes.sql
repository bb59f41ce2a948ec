-- Of an id its beginning alone: whatever an event is about, its row fits the index, so that no row ever stops the relay.
DROP INDEX audit_by_thing;
CREATE INDEX audit_by_id ON audit (left(id, 256), seq);
CREATE INDEX audit_by_entity ON audit (entity, seq);
