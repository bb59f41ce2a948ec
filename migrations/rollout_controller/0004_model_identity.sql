-- Identity of the registered model, which a rename does not change. Filled in shortly after the deployment was created; until then
-- the name stands for it.
ALTER TABLE deployments
  ADD COLUMN model_id TEXT,
  ADD COLUMN model_name_revision BIGINT NOT NULL DEFAULT 0;
CREATE INDEX deployments_by_model_id ON deployments (model_id, watch_alias) WHERE deleted_at_ms IS NULL;

-- What the owner of a deployment should know and no rollout shows: the last word about each subject.
CREATE TABLE deployment_notices (
  deployment_key BIGINT NOT NULL REFERENCES deployments ON DELETE CASCADE,
  -- `alias`, or `version/<number>`, which counts as long as the traffic table names that version.
  about TEXT NOT NULL,
  at_ms BIGINT NOT NULL,
  message TEXT NOT NULL,
  PRIMARY KEY (deployment_key, about)
);
