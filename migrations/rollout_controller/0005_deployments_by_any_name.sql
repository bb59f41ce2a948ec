-- A new deployment looks for the last revision of the traffic tables of its name, deleted deployments included.
CREATE INDEX deployments_by_any_name ON deployments (name);
