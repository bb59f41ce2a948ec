-- On whose behalf a change was made, on its way to the audit trail.
ALTER TABLE outbox ADD COLUMN principal TEXT NOT NULL DEFAULT 'system', ADD COLUMN credential TEXT NOT NULL DEFAULT '',
  ADD COLUMN origin TEXT NOT NULL DEFAULT '';

-- Every write, in a chain: hash = SHA-256(hash of the row before, then this row as a line of JSON).
CREATE TABLE audit (
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
CREATE INDEX audit_by_principal ON audit (principal, seq);
CREATE INDEX audit_by_thing ON audit (entity, id, seq);
CREATE INDEX audit_by_time ON audit USING brin (at_ms);

-- The end of the chain, locked while rows are added.
CREATE TABLE audit_head (
  one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
  seq BIGINT NOT NULL,
  hash BYTEA NOT NULL
);
INSERT INTO audit_head (seq, hash) VALUES (0, decode(repeat('00', 32), 'hex'));

CREATE FUNCTION refuse_change_of_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the audit trail is append-only' USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_audit();
