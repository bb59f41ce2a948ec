-- Work of a service that its replicas divide among themselves: which term each partition of it is in. Every write for a
-- partition locks its row and names its term. Services that do not divide their work have no rows.
CREATE TABLE lease_partitions (
  partition INT PRIMARY KEY,
  -- The fencing token: each owner has a greater one than the owner before it.
  term BIGINT NOT NULL,
  -- Who owns it, for people: a name of the replica.
  holder TEXT NOT NULL,
  since TIMESTAMPTZ NOT NULL DEFAULT now()
);
