-- The object that a path held before, so that the statement that puts a new one there can say which one it let go of. It refers to nothing.
ALTER TABLE artifacts ADD COLUMN replaced_key TEXT;
