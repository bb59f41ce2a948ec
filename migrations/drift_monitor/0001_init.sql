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

CREATE TABLE monitors (
  id UUID PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  deployment TEXT NOT NULL,
  model TEXT NOT NULL,
  -- Whether the baseline follows the deployment's stable version.
  follows_stable BOOLEAN NOT NULL,
  spec JSONB NOT NULL,
  -- waiting_for_baseline, watching or drifted.
  status TEXT NOT NULL CHECK (status IN ('waiting_for_baseline', 'watching', 'drifted')),
  reason TEXT NOT NULL DEFAULT '',
  -- What the policy remembers between windows.
  policy_state JSONB NOT NULL DEFAULT '{}',
  baseline_version TEXT,
  profile JSONB,
  -- The deployment's prediction output, where it names one.
  prediction_output TEXT,
  -- Since when the baseline may be another one: it has to be asked for again.
  baseline_stale_since TIMESTAMPTZ,
  -- Number of the last closed window.
  window_sequence BIGINT NOT NULL DEFAULT 0,
  -- Windows are committed up to row `position_rows` of the monitor's rows in message `position_sequence`.
  position_sequence BIGINT,
  position_rows BIGINT NOT NULL DEFAULT 0,
  -- Messages stored before are of no interest.
  read_from TIMESTAMPTZ NOT NULL,
  -- Raised by every change that a reader of prediction records has to notice; a reader with another value starts anew.
  epoch BIGINT NOT NULL DEFAULT 0,
  created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX monitors_by_deployment ON monitors (deployment);

CREATE TABLE windows (
  monitor_id UUID NOT NULL REFERENCES monitors (id) ON DELETE CASCADE,
  sequence BIGINT NOT NULL,
  opened_at TIMESTAMPTZ NOT NULL,
  closed_at TIMESTAMPTZ NOT NULL,
  rows BIGINT NOT NULL,
  drifted BOOLEAN NOT NULL,
  baseline_version TEXT NOT NULL,
  scores JSONB NOT NULL,
  PRIMARY KEY (monitor_id, sequence)
);

-- One row a drift event: its id is the event's.
CREATE TABLE verdicts (
  event_id UUID PRIMARY KEY,
  monitor_id UUID NOT NULL REFERENCES monitors (id) ON DELETE CASCADE,
  what TEXT NOT NULL CHECK (what IN ('detected', 'cleared')),
  baseline_version TEXT NOT NULL,
  windows BIGINT[] NOT NULL,
  evidence JSONB NOT NULL,
  decided_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX verdicts_of_monitor ON verdicts (monitor_id, event_id);

CREATE TABLE actions (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  monitor_id UUID NOT NULL REFERENCES monitors (id) ON DELETE CASCADE,
  event_id UUID NOT NULL REFERENCES verdicts (event_id) ON DELETE CASCADE,
  -- Position in the policy's list; with the event's id the idempotency key.
  position INTEGER NOT NULL,
  action TEXT NOT NULL,
  -- What is asked of the other service, variables filled in.
  request JSONB NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('pending', 'done', 'failed')) DEFAULT 'pending',
  attempts INTEGER NOT NULL DEFAULT 0,
  next_attempt_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  last_error TEXT,
  result JSONB,
  traceparent TEXT,
  created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  finished_at TIMESTAMPTZ,
  UNIQUE (event_id, position)
);
CREATE INDEX actions_pending ON actions (next_attempt_at) WHERE status = 'pending';
CREATE INDEX actions_of_monitor ON actions (monitor_id, id);
