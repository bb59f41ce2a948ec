-- Experiment of the version's run when the link to that run was authorised: then readers of the version see what it shows of the run.
ALTER TABLE model_versions ADD COLUMN run_experiment_id BIGINT;

-- A run that the request for the version named was authorised then. One that came from a logged model was not, so it counts where both
-- are in one experiment, as clients log them.
UPDATE model_versions v SET run_experiment_id = r.experiment_id FROM runs r
  WHERE r.run_id = v.run_id AND (v.logged_model_id IS NULL OR EXISTS (SELECT FROM logged_models l
    WHERE l.model_id = v.logged_model_id AND l.experiment_id = r.experiment_id));

-- A grant on an experiment that does not exist would become one on whatever gets that number.
DELETE FROM grants g WHERE g.scope LIKE 'experiment:%'
  AND NOT EXISTS (SELECT FROM experiments e WHERE g.scope = 'experiment:' || e.experiment_id);
