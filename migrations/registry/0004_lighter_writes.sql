-- A point of a metric is written a thousand times for each time that its run is removed, and a purge removes the points first: so
-- no check of the run for each of them.
ALTER TABLE metrics DROP CONSTRAINT metrics_run_key_fkey;
-- Published rows leave the outbox, so its own order is the order of what waits; ids are made unique, not checked.
DROP INDEX outbox_unpublished;
ALTER TABLE outbox DROP CONSTRAINT outbox_id_key;
