-- Segments of the chain of releases and refusals that left for a file of their own (docs/formats/audit.md). The
-- signed checkpoint of the last one says which event those that are still here follow.
CREATE TABLE audit_segments (
  first      BIGINT NOT NULL PRIMARY KEY,
  last       BIGINT NOT NULL,
  first_time BIGINT NOT NULL,
  last_time  BIGINT NOT NULL,
  made       BIGINT NOT NULL,
  checkpoint TEXT   NOT NULL,
  signature  BLOB   NOT NULL,
  file       TEXT   NOT NULL,
  bytes      BIGINT NOT NULL,
  sha256     BLOB   NOT NULL
);
