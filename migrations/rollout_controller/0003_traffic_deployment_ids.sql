-- Traffic tables carry the identity of their deployment, from which prediction records have it: a namesake, earlier or on another
-- platform, has another one. The revision grows, so that serving replicas take the table.
UPDATE deployments
SET traffic = traffic || jsonb_build_object('deployment_id', id::TEXT, 'revision', (traffic->>'revision')::BIGINT + 1)
WHERE deleted_at_ms IS NULL AND NOT traffic ? 'deployment_id';
