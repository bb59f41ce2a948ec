-- Which versions the deployments use, as their traffic tables say (NATS key-value bucket slipway-traffic), so that none of them is
-- deleted by accident.

-- One row per deployment; also the lock under which its table is read.
CREATE TABLE deployed_tables (
  deployment TEXT PRIMARY KEY,
  model TEXT NOT NULL DEFAULT '',
  -- Since when the bucket has no entry for it, without saying that it was deleted: the bucket may have been lost.
  missing_since_ms BIGINT
);

CREATE TABLE deployed_versions (
  deployment TEXT NOT NULL REFERENCES deployed_tables ON DELETE CASCADE,
  version TEXT NOT NULL,
  digest TEXT NOT NULL,
  -- stable, candidate, shadow or warm.
  role TEXT NOT NULL,
  PRIMARY KEY (deployment, version)
);
CREATE INDEX deployed_versions_by_digest ON deployed_versions (digest, version);

-- Versions that the rollout controller is about to write into a traffic table. A hold ends when the table names the version, or after
-- a minute.
CREATE TABLE version_holds (
  model_key BIGINT NOT NULL REFERENCES registered_models ON DELETE CASCADE,
  version INTEGER NOT NULL,
  deployment TEXT NOT NULL,
  held_ms BIGINT NOT NULL,
  PRIMARY KEY (model_key, version, deployment)
);

-- Names that models had before. A traffic table has the old name until the rollout controller follows a rename.
CREATE TABLE former_model_names (
  name TEXT PRIMARY KEY,
  model_key BIGINT NOT NULL REFERENCES registered_models ON DELETE CASCADE
);
CREATE INDEX former_model_names_by_model ON former_model_names (model_key);
ALTER TABLE registered_models ADD COLUMN name_revision INTEGER NOT NULL DEFAULT 0;
