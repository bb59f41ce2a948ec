CREATE TABLE outbox (
  seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id UUID NOT NULL UNIQUE,
  subject TEXT NOT NULL,
  event_type TEXT NOT NULL,
  entity TEXT NOT NULL,
  data JSONB NOT NULL,
  traceparent TEXT,
  occurred_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  published_at TIMESTAMPTZ
);
CREATE INDEX outbox_unpublished ON outbox (seq) WHERE published_at IS NULL;
CREATE TABLE inbox (
  consumer TEXT NOT NULL,
  event_id TEXT NOT NULL,
  handled_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  PRIMARY KEY (consumer, event_id)
);

CREATE TABLE jobs (
  id UUID PRIMARY KEY,
  -- The order of submission, which is the order of starting and of listing.
  seq BIGINT GENERATED ALWAYS AS IDENTITY UNIQUE,
  name TEXT NOT NULL,
  -- JSON as text: a file in it may hold characters that JSONB refuses.
  spec TEXT NOT NULL,
  idempotency_key TEXT UNIQUE,
  -- The state machine's state; the columns below repeat what queries ask for.
  state JSONB NOT NULL,
  status TEXT NOT NULL,
  cpus DOUBLE PRECISION NOT NULL,
  retry_at_unix_ms BIGINT,
  traceparent TEXT,
  created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  finished_at TIMESTAMPTZ,
  -- Objects that nothing refers to are gone from the store.
  collected_at TIMESTAMPTZ
);
CREATE INDEX jobs_by_status ON jobs (status, seq);
CREATE INDEX jobs_uncollected ON jobs (finished_at) WHERE collected_at IS NULL;

CREATE TABLE attempts (
  job_id UUID NOT NULL REFERENCES jobs (id),
  number INTEGER NOT NULL,
  -- The token itself is known to the agent alone.
  token_sha256 TEXT NOT NULL,
  reason TEXT NOT NULL DEFAULT '',
  exit_code INTEGER,
  signal INTEGER,
  started_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  ended_at TIMESTAMPTZ,
  PRIMARY KEY (job_id, number)
);

CREATE TABLE checkpoints (
  job_id UUID NOT NULL REFERENCES jobs (id),
  -- Object key prefix, unique to the upload.
  prefix TEXT NOT NULL,
  step BIGINT NOT NULL,
  attempt INTEGER NOT NULL,
  manifest JSONB NOT NULL,
  size_bytes BIGINT NOT NULL,
  committed_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  -- Let go by retention; its objects are being deleted.
  released_at TIMESTAMPTZ,
  PRIMARY KEY (job_id, prefix)
);
CREATE INDEX checkpoints_by_step ON checkpoints (job_id, step DESC) WHERE released_at IS NULL;
CREATE INDEX checkpoints_released ON checkpoints (released_at) WHERE released_at IS NOT NULL;
