-- Identity of the deployment whose records count: empty where the controller gives none, NULL while it is not known.
ALTER TABLE monitors ADD COLUMN deployment_id TEXT;
-- The model's inputs and their widths, in the order of its signature; NULL while they are not known.
ALTER TABLE monitors ADD COLUMN inputs JSONB;
-- What of the profile does not fit the model's signature, for people; empty where all of it fits.
ALTER TABLE monitors ADD COLUMN misfit TEXT NOT NULL DEFAULT '';
-- What was read of each run of a serving process, and what is known to be lost since the last window.
ALTER TABLE monitors ADD COLUMN received JSONB NOT NULL DEFAULT '{}';
-- The open window, as it was a moment ago.
ALTER TABLE monitors ADD COLUMN open_window JSONB;

-- Answered rows of the window's time that no record holds: gone from the stream before they were read, dropped by serving
-- processes, or left out of records of large requests.
ALTER TABLE windows ADD COLUMN rows_lost BIGINT NOT NULL DEFAULT 0;
ALTER TABLE windows ADD COLUMN rows_dropped BIGINT NOT NULL DEFAULT 0;
ALTER TABLE windows ADD COLUMN rows_not_recorded BIGINT NOT NULL DEFAULT 0;
