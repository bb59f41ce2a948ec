-- Distributed jobs whose processes are scheduled one by one, so that two of them could wait for each other.
ALTER TABLE jobs ADD COLUMN is_gang BOOLEAN NOT NULL DEFAULT false;

-- When the agents of an attempt had restored its checkpoint, and which that was: none where there was none.
ALTER TABLE attempts ADD COLUMN ready_at TIMESTAMPTZ;
ALTER TABLE attempts ADD COLUMN restored_step BIGINT;
-- What the attempt before had done since that checkpoint, and this one does again.
ALTER TABLE attempts ADD COLUMN lost_ms BIGINT;

-- Processes of the attempts of distributed jobs.
CREATE TABLE processes (
  job_id UUID NOT NULL,
  attempt INTEGER NOT NULL,
  -- From 0.
  number INTEGER NOT NULL,
  -- Whether its agent has renewed the lease since all of them had: the lease of an attempt is renewed when the
  -- agents of all its processes have.
  renewed BOOLEAN NOT NULL DEFAULT false,
  -- Whether its checkpoint is restored, and the prefix of that: empty where there was none.
  ready BOOLEAN NOT NULL DEFAULT false,
  restored TEXT NOT NULL DEFAULT '',
  -- Whether its agent was told to end, and passes that on to its command.
  stopping BOOLEAN NOT NULL DEFAULT false,
  warnings TEXT[] NOT NULL DEFAULT '{}',
  log_bytes BIGINT NOT NULL DEFAULT 0,
  -- How it ended, as its agent reported it, and whether that ends the attempt as a failure.
  ended_at TIMESTAMPTZ,
  outcome JSONB,
  exit_code INTEGER,
  signal INTEGER,
  failed BOOLEAN NOT NULL DEFAULT false,
  PRIMARY KEY (job_id, attempt, number),
  FOREIGN KEY (job_id, attempt) REFERENCES attempts (job_id, number) ON DELETE CASCADE
);

-- Parts of checkpoints that processes of a distributed job have stored, until all of them have.
CREATE TABLE checkpoint_parts (
  job_id UUID NOT NULL,
  attempt INTEGER NOT NULL,
  step BIGINT NOT NULL,
  process INTEGER NOT NULL,
  manifest JSONB NOT NULL,
  PRIMARY KEY (job_id, attempt, step, process),
  FOREIGN KEY (job_id, attempt) REFERENCES attempts (job_id, number) ON DELETE CASCADE
);
-- As jobs_with_attempt and jobs_waiting, with the jobs that are being suspended, or are. The release before
-- uses those.
CREATE INDEX jobs_of_attempts ON jobs (seq) WHERE status IN ('pending', 'running', 'cancelling', 'suspending');
CREATE INDEX jobs_suspended ON jobs (seq) WHERE status = 'suspended';
