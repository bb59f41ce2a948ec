-- Launchers that run, and what the nodes that they run on have for jobs.
CREATE TABLE launchers (
  id UUID NOT NULL,
  backend TEXT NOT NULL,
  -- Within which the reports of the backend hold, e.g. one process namespace of one machine since its start.
  node TEXT NOT NULL,
  -- Where agents reach it.
  url TEXT NOT NULL,
  cpus DOUBLE PRECISION NOT NULL,
  memory_bytes BIGINT NOT NULL,
  gpus INTEGER NOT NULL,
  -- By the clock of Postgres.
  seen_at_unix_ms BIGINT NOT NULL,
  PRIMARY KEY (id, node)
);

-- Who started an attempt, and where: none for attempts of earlier releases.
ALTER TABLE attempts ADD COLUMN backend TEXT;
ALTER TABLE attempts ADD COLUMN node TEXT;
ALTER TABLE attempts ADD COLUMN launcher UUID;
-- How often its agent has renewed its lease. Launchers watch this number with monotonic clocks of their own.
ALTER TABLE attempts ADD COLUMN renewals BIGINT NOT NULL DEFAULT 0;
-- The lease that its agent was given: how long it goes on without a renewal, and others wait.
ALTER TABLE attempts ADD COLUMN lease_ms BIGINT;
-- When the lease is over by the clock of Postgres, for people.
ALTER TABLE attempts ADD COLUMN lease_expires_at TIMESTAMPTZ;
-- Length of the log in the artifact store. None where it is on the disk of the launcher of an earlier release.
ALTER TABLE attempts ADD COLUMN log_bytes BIGINT;

-- Whatever looks at jobs that have not ended does not pass those that have.
CREATE INDEX jobs_waiting ON jobs (seq) WHERE status IN ('queued', 'retrying');
CREATE INDEX jobs_active ON jobs (seq) WHERE status IN ('running', 'cancelling');

-- How many jobs have ended, by status, each in one of several rows so that jobs that end at once do not wait
-- for each other.
CREATE TABLE ended_jobs (
  status TEXT NOT NULL,
  shard INTEGER NOT NULL,
  jobs BIGINT NOT NULL,
  PRIMARY KEY (status, shard)
);
INSERT INTO ended_jobs (status, shard, jobs)
  SELECT status, 0, count(*) FROM jobs
  WHERE status IN ('succeeded', 'failed', 'cancelled') GROUP BY status;

CREATE FUNCTION count_ended_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO ended_jobs (status, shard, jobs) VALUES (NEW.status, (NEW.seq % 16)::integer, 1)
    ON CONFLICT (status, shard) DO UPDATE SET jobs = ended_jobs.jobs + 1;
  RETURN NULL;
END $$;
CREATE TRIGGER jobs_end_counted AFTER UPDATE OF status ON jobs FOR EACH ROW
  WHEN (NEW.status IN ('succeeded', 'failed', 'cancelled')
    AND OLD.status NOT IN ('succeeded', 'failed', 'cancelled'))
  EXECUTE FUNCTION count_ended_job();
CREATE TRIGGER jobs_submitted_ended_counted AFTER INSERT ON jobs FOR EACH ROW
  WHEN (NEW.status IN ('succeeded', 'failed', 'cancelled'))
  EXECUTE FUNCTION count_ended_job();
