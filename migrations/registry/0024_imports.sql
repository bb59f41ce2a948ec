-- Addresses outside of the registry whose content becomes versions of a model.
CREATE TABLE imports (
  import_key BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id UUID NOT NULL,
  model_key BIGINT NOT NULL REFERENCES registered_models ON DELETE CASCADE,
  uri TEXT NOT NULL,
  -- Set to each version that is made; empty: none is.
  alias TEXT NOT NULL,
  -- Whether new content becomes a new version.
  watch BOOLEAN NOT NULL,
  -- Identifies the content that became `version`.
  fingerprint TEXT,
  version INTEGER,
  -- Why the newest content has not become a version, or the alias was not set.
  problem TEXT,
  -- Bytes that were stored of the content that is being read, and all of them.
  done_bytes BIGINT NOT NULL DEFAULT 0,
  total_bytes BIGINT NOT NULL DEFAULT 0,
  created_ms BIGINT NOT NULL,
  updated_ms BIGINT NOT NULL,
  UNIQUE (model_key, uri, alias)
);
CREATE INDEX imports_by_id ON imports (id);
