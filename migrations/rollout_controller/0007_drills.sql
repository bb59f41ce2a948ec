-- Fault drills of deployments, each with its report.
CREATE TABLE drills (
  id UUID PRIMARY KEY,
  deployment_key BIGINT NOT NULL REFERENCES deployments ON DELETE CASCADE,
  state JSONB NOT NULL,
  began_at_unix_ms BIGINT NOT NULL,
  ended_at_unix_ms BIGINT,
  -- A request with this key again is the same drill. Keys that count no longer are removed, so that the same
  -- request starts another one.
  idempotency_key TEXT UNIQUE
);
CREATE INDEX drills_by_deployment ON drills (deployment_key, began_at_unix_ms);
-- One at a time, and the control loop looks for those that run.
CREATE UNIQUE INDEX drills_running ON drills (deployment_key) WHERE ended_at_unix_ms IS NULL;
