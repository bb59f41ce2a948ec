-- One definition for every schema: makes the tables, or brings those that a service's own migrations made to the same shape.
SET LOCAL client_min_messages = warning;

-- Events that were committed and not yet published. Published rows are deleted, so the primary key is the order of the queue.
CREATE TABLE IF NOT EXISTS outbox (
  seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id UUID NOT NULL,
  subject TEXT NOT NULL,
  event_type TEXT NOT NULL,
  entity TEXT NOT NULL,
  data JSONB NOT NULL,
  traceparent TEXT,
  occurred_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  published_at TIMESTAMPTZ
);
-- On whose behalf a change was made, for the audit trail.
ALTER TABLE outbox
  ADD COLUMN IF NOT EXISTS principal TEXT NOT NULL DEFAULT 'system',
  ADD COLUMN IF NOT EXISTS credential TEXT NOT NULL DEFAULT '',
  ADD COLUMN IF NOT EXISTS origin TEXT NOT NULL DEFAULT '';
-- Ids are unique by construction; two indexes less to write for each event.
ALTER TABLE outbox DROP CONSTRAINT IF EXISTS outbox_id_key;
DROP INDEX IF EXISTS outbox_unpublished;

-- Events that a consumer has handled.
CREATE TABLE IF NOT EXISTS inbox (
  consumer TEXT NOT NULL,
  event_id TEXT NOT NULL,
  handled_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  PRIMARY KEY (consumer, event_id)
);
