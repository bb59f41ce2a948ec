-- Whose signatures of models count: public keys and roots of certificates, under names.
CREATE TABLE signing_keys (
  name TEXT COLLATE "C" PRIMARY KEY,
  pem TEXT NOT NULL,
  description TEXT,
  created_ms BIGINT NOT NULL,
  updated_ms BIGINT NOT NULL
);

-- Signatures of a version as they came; whether they are good is told when somebody asks, since trust may change.
CREATE TABLE model_version_signatures (
  model_key BIGINT NOT NULL,
  version INTEGER NOT NULL,
  -- Where it lies among the version's files; empty for one that was attached.
  path TEXT COLLATE "C" NOT NULL,
  -- Its line in that file, from 1; 0 where the file holds one alone.
  line INTEGER NOT NULL,
  bundle TEXT NOT NULL,
  -- Why the file cannot be a signature; the bundle is empty then.
  fault TEXT,
  created_ms BIGINT NOT NULL,
  PRIMARY KEY (model_key, version, path, line),
  FOREIGN KEY (model_key, version) REFERENCES model_versions ON DELETE CASCADE
);
