-- Where the attempts of a job run: 'local' or 'kubernetes'.
ALTER TABLE jobs ADD COLUMN backend TEXT NOT NULL DEFAULT 'local';

-- As jobs_active, with the jobs whose attempt waits for its node, image or queue. The release before uses that
-- one.
CREATE INDEX jobs_with_attempt ON jobs (seq) WHERE status IN ('pending', 'running', 'cancelling');

-- Which installation the objects in a cluster belong to.
CREATE TABLE installation (
  id UUID NOT NULL DEFAULT gen_random_uuid(),
  is_only BOOLEAN PRIMARY KEY DEFAULT true CHECK (is_only)
);
INSERT INTO installation DEFAULT VALUES;
