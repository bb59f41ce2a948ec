-- The object of a Kubernetes cluster that a deployment comes from, by its UID, and the generation of it that was
-- applied last.
ALTER TABLE deployments ADD COLUMN resource_uid TEXT;
ALTER TABLE deployments ADD COLUMN resource_generation BIGINT;
CREATE INDEX deployments_by_resource ON deployments (resource_uid) WHERE deleted_at_ms IS NULL;
