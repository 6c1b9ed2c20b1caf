-- To whom backups are encrypted. `recipient` is what each is known by: the age recipient, the SSH key, or
-- the OpenPGP fingerprint, whose armored key stands in `public_key`. Lists are JSON.
CREATE TABLE recipients (
  id         BLOB   NOT NULL PRIMARY KEY,
  kind       TEXT   NOT NULL,
  recipient  TEXT   NOT NULL,
  public_key TEXT,
  label      TEXT   NOT NULL,
  user_ids   TEXT   NOT NULL,
  subkeys    TEXT   NOT NULL,
  added      BIGINT NOT NULL,
  added_by   TEXT   NOT NULL,
  expires    BIGINT,
  trouble    TEXT
);
CREATE UNIQUE INDEX recipients_by_text ON recipients (recipient);
