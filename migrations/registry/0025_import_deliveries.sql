-- Imports whose bytes the registry cannot read: a client that can hands them over.
ALTER TABLE imports ADD COLUMN delivered BOOLEAN NOT NULL DEFAULT false;
CREATE TABLE import_deliveries (
  delivery_key BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  -- Null once the import has ended: what was delivered is removed.
  import_key BIGINT REFERENCES imports ON DELETE SET NULL,
  -- SHA-256 of the token that the client shows.
  token_sha256 BYTEA NOT NULL UNIQUE,
  -- Directory of its files within the artifact proxy.
  root TEXT NOT NULL,
  -- Whether all files are there.
  completed BOOLEAN NOT NULL DEFAULT false,
  created_ms BIGINT NOT NULL,
  expires_ms BIGINT NOT NULL
);
CREATE INDEX import_deliveries_by_import ON import_deliveries (import_key);
CREATE INDEX import_deliveries_by_expiry ON import_deliveries (expires_ms);
