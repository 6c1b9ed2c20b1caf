-- Organizations whose deposits are being sealed anew under a newer key: how far that is, up to this
-- version of this name, which is done. What did not open is counted, and keeps the older keys.
CREATE TABLE key_rotations (
  org     BLOB   NOT NULL PRIMARY KEY,
  version BIGINT NOT NULL,
  name    TEXT   NOT NULL,
  of_name BIGINT NOT NULL,
  done    BIGINT NOT NULL,
  total   BIGINT NOT NULL,
  started BIGINT NOT NULL,
  failed  BIGINT NOT NULL,
  first   TEXT   NOT NULL,
  ended   BIGINT NOT NULL
);
