-- Organizations whose deposits are being sealed anew under a newer key: how far that is. Up to the
-- version of this name, which is done.
CREATE TABLE key_rotations (
  org     BLOB   NOT NULL PRIMARY KEY,
  version BIGINT NOT NULL,
  name    TEXT   NOT NULL,
  of_name BIGINT NOT NULL,
  done    BIGINT NOT NULL,
  total   BIGINT NOT NULL,
  started BIGINT NOT NULL
);
