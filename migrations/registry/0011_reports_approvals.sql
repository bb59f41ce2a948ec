-- How a version did when it was tried. A row never changes.
CREATE TABLE model_version_reports (
  report_id TEXT PRIMARY KEY,
  -- The order in which they were posted: of several with one name the last counts.
  seq BIGINT GENERATED ALWAYS AS IDENTITY UNIQUE,
  model_key BIGINT NOT NULL,
  version INTEGER NOT NULL,
  name TEXT NOT NULL,
  body JSONB NOT NULL,
  created_ms BIGINT NOT NULL,
  FOREIGN KEY (model_key, version) REFERENCES model_versions ON DELETE CASCADE
);
CREATE INDEX model_version_reports_newest ON model_version_reports (model_key, version, name, seq DESC);
CREATE INDEX model_version_reports_by_age ON model_version_reports (model_key, version, seq DESC);

CREATE TABLE model_version_approvals (
  model_key BIGINT NOT NULL,
  version INTEGER NOT NULL,
  approver TEXT COLLATE "C" NOT NULL,
  comment TEXT,
  created_ms BIGINT NOT NULL,
  PRIMARY KEY (model_key, version, approver),
  FOREIGN KEY (model_key, version) REFERENCES model_versions ON DELETE CASCADE
);
