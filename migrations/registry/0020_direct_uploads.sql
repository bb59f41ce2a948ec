-- Uploads in parts that clients send to the artifact store themselves. The object's key stands in loose_blobs until it is an artifact.
CREATE TABLE direct_uploads (
  upload_id TEXT PRIMARY KEY,
  path TEXT COLLATE "C" NOT NULL,
  blob_key TEXT NOT NULL,
  -- The upload's id at the artifact store.
  store_id TEXT NOT NULL,
  begun_ms BIGINT NOT NULL,
  -- Set once it is an artifact: a client that did not get the answer completes it again.
  completed_ms BIGINT
);
CREATE INDEX direct_uploads_by_age ON direct_uploads (begun_ms);
