-- Which term the leader of the service is in. Every write of a leader locks this row and names its term.
CREATE TABLE lease (
  only_row BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (only_row),
  -- The fencing token: each leader has a greater one than the leader before it.
  term BIGINT NOT NULL,
  -- Who leads, for people: a name of the replica.
  holder TEXT NOT NULL,
  since TIMESTAMPTZ NOT NULL DEFAULT now()
);
INSERT INTO lease (term, holder) VALUES (0, '');

-- What the leader locks. A view has no rows: vacuum never asks for it, and a lock that is held for months is in nobody's way.
CREATE VIEW lease_lock AS SELECT TRUE AS held;
