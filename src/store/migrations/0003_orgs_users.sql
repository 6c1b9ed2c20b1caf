-- When an organization ends; null: never.
ALTER TABLE orgs ADD COLUMN expires BIGINT;

-- A user's second factor. It is asked for once a code of it was given (`confirmed`). No code of a
-- step up to `last_step` is taken again.
CREATE TABLE second_factors (
  user_id   BLOB   NOT NULL PRIMARY KEY,
  secret    BLOB   NOT NULL,
  created   BIGINT NOT NULL,
  confirmed BIGINT,
  last_step BIGINT NOT NULL
);

-- Each is taken once, instead of a code.
CREATE TABLE recovery_codes (
  hash    BLOB NOT NULL PRIMARY KEY,
  user_id BLOB NOT NULL
);
CREATE INDEX recovery_codes_by_user ON recovery_codes (user_id);

-- When the session's user last proved who he is, beyond having the cookie; null: at log-in alone.
ALTER TABLE sessions ADD COLUMN proven BIGINT;
