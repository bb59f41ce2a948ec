-- What goes when it is old or surpassed.
CREATE TABLE retention_rules (
  name TEXT COLLATE "C" PRIMARY KEY,
  rule JSONB NOT NULL,
  enabled BOOLEAN NOT NULL,
  created_ms BIGINT NOT NULL,
  updated_ms BIGINT NOT NULL
);
