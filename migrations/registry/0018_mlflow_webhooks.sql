-- Webhooks that were made through MLflow's API: known by an id, told in MLflow's format, signed only where there is a secret.
ALTER TABLE webhooks
  ADD COLUMN webhook_id TEXT COLLATE "C" NOT NULL DEFAULT gen_random_uuid()::TEXT UNIQUE,
  ADD COLUMN format TEXT NOT NULL DEFAULT 'cloudevents' CHECK (format IN ('cloudevents', 'mlflow')),
  -- `entity.action`, in the order that was asked for; `events` holds the subjects that these come from.
  ADD COLUMN mlflow_events TEXT[] NOT NULL DEFAULT '{}',
  ALTER COLUMN secret DROP NOT NULL,
  ADD CHECK (format = 'mlflow' OR secret IS NOT NULL);
