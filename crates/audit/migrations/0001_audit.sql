-- One definition for every schema: makes the tables, or brings those that a service's own migrations made to the same shape.
SET LOCAL client_min_messages = warning;

-- Every write, in a chain: hash = SHA-256(hash of the row before, then this row as a line of JSON).
CREATE TABLE IF NOT EXISTS audit (
  seq BIGINT PRIMARY KEY,
  event_id UUID NOT NULL,
  at_ms BIGINT NOT NULL,
  principal TEXT NOT NULL,
  credential TEXT NOT NULL,
  origin TEXT NOT NULL,
  trace_id TEXT NOT NULL,
  entity TEXT NOT NULL,
  what TEXT NOT NULL,
  id TEXT NOT NULL,
  -- Text and not JSONB, because the hash is over these very characters.
  details TEXT NOT NULL,
  hash BYTEA NOT NULL
);
CREATE INDEX IF NOT EXISTS audit_by_principal ON audit (principal, seq);
CREATE INDEX IF NOT EXISTS audit_by_entity ON audit (entity, seq);
-- Only the beginning of an id, so that every row fits the index and none stops the relay.
CREATE INDEX IF NOT EXISTS audit_by_id ON audit (left(id, 256), seq);
CREATE INDEX IF NOT EXISTS audit_by_time ON audit USING brin (at_ms);

-- The end of the chain, locked while rows are added.
CREATE TABLE IF NOT EXISTS audit_head (
  one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
  seq BIGINT NOT NULL,
  hash BYTEA NOT NULL
);
INSERT INTO audit_head (seq, hash) VALUES (0, decode(repeat('00', 32), 'hex')) ON CONFLICT DO NOTHING;

CREATE OR REPLACE FUNCTION refuse_change_of_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the audit trail is append-only' USING ERRCODE = 'insufficient_privilege';
END
$$;
DROP TRIGGER IF EXISTS audit_is_append_only ON audit;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_audit();
