-- Where versions are deployed, as the rollout controller's events tell it. A deployment that is gone keeps its row, so that news of
-- before its end change nothing.
CREATE TABLE deployments (
  deployment TEXT PRIMARY KEY,
  model TEXT NOT NULL,
  stable_version TEXT,
  stable_since_ms BIGINT,
  candidate_version TEXT,
  candidate_since_ms BIGINT,
  candidate_weight_percent SMALLINT NOT NULL,
  told_ms BIGINT NOT NULL
);
CREATE INDEX deployments_by_model ON deployments (model);
