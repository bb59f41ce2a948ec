-- Whether the registry may hold a token for the job, which is to be revoked once the job has no attempt.
ALTER TABLE jobs ADD COLUMN has_token BOOLEAN NOT NULL DEFAULT false;
CREATE INDEX jobs_with_token ON jobs (seq) WHERE has_token;
