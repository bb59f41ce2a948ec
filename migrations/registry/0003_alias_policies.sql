-- What a version has to show before an alias may point at it.
CREATE TABLE alias_policies (
  model_key BIGINT NOT NULL REFERENCES registered_models ON DELETE CASCADE,
  alias TEXT NOT NULL,
  policy JSONB NOT NULL,
  updated_ms BIGINT NOT NULL,
  PRIMARY KEY (model_key, alias)
);
