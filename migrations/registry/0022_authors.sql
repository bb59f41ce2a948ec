-- The authenticated principal that created a thing; NULL where access control was off. What a client says of its user is not proof.
ALTER TABLE runs ADD COLUMN created_by TEXT;
ALTER TABLE logged_models ADD COLUMN created_by TEXT;
ALTER TABLE model_versions ADD COLUMN created_by TEXT;
-- Whether the approver was authenticated; an approval given with access control off has the name that the client chose.
ALTER TABLE model_version_approvals ADD COLUMN authenticated BOOLEAN NOT NULL DEFAULT FALSE;

-- The audit trail knows the principals of what was created before, where access control was on.
UPDATE model_versions v SET created_by = a.principal FROM registered_models m, audit a
  WHERE m.model_key = v.model_key AND left(a.id, 256) = left(m.name || '/' || v.version, 256) AND a.id = m.name || '/' || v.version
    AND a.entity = 'model-version' AND a.what = 'created' AND a.credential <> '';
UPDATE runs r SET created_by = a.principal FROM audit a
  WHERE left(a.id, 256) = left(r.run_id, 256) AND a.id = r.run_id AND a.entity = 'run' AND a.what = 'created' AND a.credential <> ''
    AND EXISTS (SELECT FROM model_versions v WHERE v.run_id = r.run_id);
UPDATE logged_models l SET created_by = a.principal FROM audit a
  WHERE left(a.id, 256) = left(l.model_id, 256) AND a.id = l.model_id AND a.entity = 'logged-model' AND a.what = 'created'
    AND a.credential <> '' AND EXISTS (SELECT FROM model_versions v WHERE v.logged_model_id = l.model_id);
UPDATE model_version_approvals p SET authenticated = TRUE FROM registered_models m, audit a
  WHERE m.model_key = p.model_key AND left(a.id, 256) = left(m.name || '/' || p.version, 256) AND a.id = m.name || '/' || p.version
    AND a.entity = 'approval' AND a.what = 'added' AND a.principal = p.approver AND a.credential <> '';

-- A version that serving cannot load says so in a tag, where MLflow's users look. Versions of a source elsewhere, or without files, are
-- references and no models to be served.
INSERT INTO model_version_tags (model_key, version, key, value)
  SELECT model_key, version, 'slipway.unservable', left(facts->>'unservable_reason', 5000) FROM model_versions
  WHERE NOT servable AND EXISTS (SELECT FROM model_version_files f WHERE f.model_key = model_versions.model_key
    AND f.version = model_versions.version) ON CONFLICT DO NOTHING;
