-- The experiment that a job logs to, as its spec names it: roles on the experiment are roles on the job.
ALTER TABLE jobs ADD COLUMN experiment_id BIGINT;
CREATE INDEX jobs_by_experiment ON jobs (experiment_id, seq) WHERE experiment_id IS NOT NULL;
