-- The rollout controller's own schema.

CREATE TABLE outbox (seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id UUID NOT NULL UNIQUE, subject TEXT NOT NULL, event_type TEXT NOT NULL, entity TEXT NOT NULL,
  data JSONB NOT NULL, traceparent TEXT, occurred_at TIMESTAMPTZ NOT NULL DEFAULT now(), published_at TIMESTAMPTZ);
CREATE INDEX outbox_unpublished ON outbox (seq) WHERE published_at IS NULL;
CREATE TABLE inbox (consumer TEXT NOT NULL, event_id TEXT NOT NULL, handled_at TIMESTAMPTZ NOT NULL DEFAULT now(), PRIMARY KEY (consumer, event_id));

-- A deleted deployment stays for its rollouts' sake, and so that table revisions of the name go on growing.
CREATE TABLE deployments (
  deployment_key BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name TEXT NOT NULL,
  model TEXT NOT NULL,
  watch_alias TEXT,
  default_strategy JSONB NOT NULL,
  -- The intended traffic table. NATS KV holds a copy of it for the serving replicas.
  traffic JSONB NOT NULL,
  created_at_ms BIGINT NOT NULL,
  deleted_at_ms BIGINT
);
CREATE UNIQUE INDEX deployments_by_name ON deployments (name) WHERE deleted_at_ms IS NULL;
CREATE INDEX deployments_by_alias ON deployments (model, watch_alias) WHERE deleted_at_ms IS NULL;

CREATE TABLE rollouts (
  seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id UUID NOT NULL UNIQUE,
  deployment_key BIGINT NOT NULL REFERENCES deployments,
  deployment TEXT NOT NULL,
  model TEXT NOT NULL,
  -- The whole state, as the state machine knows it.
  state JSONB NOT NULL,
  phase TEXT NOT NULL,
  active BOOLEAN NOT NULL,
  -- W3C trace context of what started it.
  traceparent TEXT,
  idempotency_key TEXT UNIQUE
);
CREATE INDEX rollouts_by_deployment ON rollouts (deployment, seq DESC);
-- One at a time.
CREATE UNIQUE INDEX rollouts_active ON rollouts (deployment_key) WHERE active;

-- Why it was decided.
CREATE TABLE decisions (
  rollout_id UUID NOT NULL REFERENCES rollouts (id),
  seq BIGINT GENERATED ALWAYS AS IDENTITY,
  at_ms BIGINT NOT NULL,
  step INTEGER NOT NULL,
  verdict TEXT NOT NULL,
  reason TEXT NOT NULL,
  evidence JSONB NOT NULL,
  PRIMARY KEY (rollout_id, seq)
);
