-- Backups that were decrypted in full, checked, and got their name; where they lie is known to whoever
-- wrote them. Those whose file is gone stay for a while, with the time.
CREATE TABLE backups (
  id             BLOB   NOT NULL PRIMARY KEY,
  created        BIGINT NOT NULL,
  verified       BIGINT NOT NULL,
  path           TEXT   NOT NULL,
  form           TEXT   NOT NULL,
  bytes          BIGINT NOT NULL,
  sha256         TEXT   NOT NULL,
  revision       BIGINT NOT NULL,
  newest_deposit BIGINT,
  recipients     TEXT   NOT NULL,
  drilled        BIGINT,
  by_job         BIGINT NOT NULL,
  removed        BIGINT
);
CREATE INDEX backups_by_time ON backups (created);
