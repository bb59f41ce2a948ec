-- Who is called when something happens. Secrets have to be read back to sign with them; they never leave the registry again.
CREATE TABLE webhooks (
  webhook_key BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name TEXT COLLATE "C" NOT NULL UNIQUE,
  url TEXT NOT NULL,
  description TEXT NOT NULL,
  events TEXT[] NOT NULL,
  secret TEXT NOT NULL,
  -- Signs too until then, so that a receiver has time to learn the new one.
  old_secret TEXT,
  old_secret_until_ms BIGINT NOT NULL DEFAULT 0,
  enabled BOOLEAN NOT NULL,
  disabled_reason TEXT,
  -- By the clock of the database, which also dates the events: what happened before is not delivered.
  active_from_ms BIGINT NOT NULL,
  created_ms BIGINT NOT NULL,
  updated_ms BIGINT NOT NULL
);

-- One row for an event and a webhook: the unique key is what makes an event that arrives twice one delivery.
CREATE TABLE webhook_deliveries (
  delivery_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  webhook_key BIGINT NOT NULL REFERENCES webhooks ON DELETE CASCADE,
  event_id TEXT NOT NULL,
  subject TEXT NOT NULL,
  -- The CloudEvent, byte for byte as it is signed and sent.
  body TEXT NOT NULL,
  state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'dead')),
  attempts INTEGER NOT NULL DEFAULT 0,
  next_attempt_ms BIGINT NOT NULL,
  -- Who is at it, and until when nobody else is.
  claim BIGINT,
  claimed_until_ms BIGINT NOT NULL DEFAULT 0,
  last_status INTEGER,
  last_error TEXT,
  created_ms BIGINT NOT NULL,
  finished_ms BIGINT,
  UNIQUE (webhook_key, event_id)
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook_key, next_attempt_ms) WHERE state = 'pending';
CREATE INDEX webhook_deliveries_newest ON webhook_deliveries (webhook_key, delivery_id DESC);
CREATE INDEX webhook_deliveries_finished ON webhook_deliveries (finished_ms) WHERE finished_ms IS NOT NULL;
