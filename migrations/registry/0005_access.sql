-- API tokens: the id finds the row, of the secret there is its SHA-256 alone.
CREATE TABLE api_tokens (
  token_id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  principal TEXT NOT NULL,
  secret_sha256 BYTEA NOT NULL,
  created_ms BIGINT NOT NULL,
  created_by TEXT NOT NULL,
  expires_ms BIGINT,
  last_used_ms BIGINT
);

-- Roles: subject is a principal or group:<name>; scope is *, experiment:<id> or model:<name>. What a grant is on need not exist yet.
CREATE TABLE grants (
  subject TEXT NOT NULL,
  scope TEXT NOT NULL,
  role TEXT NOT NULL,
  granted_ms BIGINT NOT NULL,
  granted_by TEXT NOT NULL,
  PRIMARY KEY (subject, scope)
);
CREATE INDEX grants_by_scope ON grants (scope);

-- Whose directory is a path of the artifact proxy?
CREATE INDEX experiments_by_location ON experiments (artifact_location);
