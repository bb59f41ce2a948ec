-- Set before the first of a run's rows goes: from then on the run is gone for everybody, also where the purge breaks off half-way.
ALTER TABLE runs ADD COLUMN purging BOOLEAN NOT NULL DEFAULT FALSE;
CREATE INDEX runs_deleted ON runs (deleted_ms) WHERE deleted_ms IS NOT NULL;
CREATE INDEX logged_models_deleted ON logged_models (deleted_ms) WHERE deleted_ms IS NOT NULL;
