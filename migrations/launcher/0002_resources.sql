-- What a job asks for besides CPU cores. Jobs of before asked for nothing that was kept.
ALTER TABLE jobs ADD COLUMN memory_bytes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN gpus INTEGER NOT NULL DEFAULT 0;

-- The CPU cores that an attempt is bound to, by number; none for all of the machine.
ALTER TABLE attempts ADD COLUMN cores INTEGER[] NOT NULL DEFAULT '{}';
-- The GPUs that an attempt has, by number.
ALTER TABLE attempts ADD COLUMN gpus INTEGER[] NOT NULL DEFAULT '{}';
-- What is not as it should be without being a failure.
ALTER TABLE attempts ADD COLUMN warnings TEXT[] NOT NULL DEFAULT '{}';
