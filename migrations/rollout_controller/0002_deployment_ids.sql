-- Identifies a deployment beyond its name, which is free again after a deletion.
ALTER TABLE deployments ADD COLUMN id UUID NOT NULL DEFAULT gen_random_uuid();
CREATE UNIQUE INDEX deployments_by_id ON deployments (id);
-- What came of the last move of the watched alias, as events carry it.
ALTER TABLE deployments ADD COLUMN last_alias_move JSONB;

CREATE INDEX rollouts_by_deployment_key ON rollouts (deployment_key, seq DESC);
DROP INDEX rollouts_by_deployment;
