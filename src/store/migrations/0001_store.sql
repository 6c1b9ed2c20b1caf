-- Types are those that every engine has: BIGINT, TEXT, BLOB. Times are microseconds since 1970.
-- Every table has a declared key that is never null; no triggers, no cascades. What is secret is an
-- envelope (docs/formats/envelope.md). schema.rs says of each table whether a twin receives it.

CREATE TABLE meta (
  name  TEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
);

-- System keys: wrapped under the key-encryption key.
CREATE TABLE system_keys (
  name    TEXT   NOT NULL PRIMARY KEY,
  version BIGINT NOT NULL,
  wrapped BLOB   NOT NULL,
  created BIGINT NOT NULL
);

CREATE TABLE orgs (
  id                 BLOB   NOT NULL PRIMARY KEY,
  name               TEXT   NOT NULL UNIQUE,
  contacts           TEXT   NOT NULL,
  auth_code          BLOB,
  recovery_recipient TEXT,
  created            BIGINT NOT NULL,
  clients            BIGINT NOT NULL,
  deposits           BIGINT NOT NULL
);

CREATE TABLE org_keys (
  org     BLOB   NOT NULL,
  version BIGINT NOT NULL,
  wrapped BLOB   NOT NULL,
  created BIGINT NOT NULL,
  PRIMARY KEY (org, version)
);

CREATE TABLE clients (
  id              BLOB   NOT NULL PRIMARY KEY,
  org             BLOB   NOT NULL,
  state           TEXT   NOT NULL,
  description     TEXT   NOT NULL,
  age_recipient   TEXT,
  recipient_proof BLOB,
  created         BIGINT NOT NULL,
  pending_until   BIGINT,
  registered_from TEXT   NOT NULL,
  reason          TEXT
);
CREATE INDEX clients_by_org ON clients (org, id);
CREATE INDEX clients_pending ON clients (org, pending_until) WHERE state = 'pending';

-- One key belongs to one client. Rows elsewhere refer to the client, so that keys can change.
CREATE TABLE client_keys (
  spki        BLOB   NOT NULL PRIMARY KEY,
  client      BLOB   NOT NULL,
  certificate BLOB   NOT NULL,
  added       BIGINT NOT NULL
);
CREATE INDEX client_keys_by_client ON client_keys (client);

CREATE TABLE deposits (
  id           BLOB   NOT NULL PRIMARY KEY,
  org          BLOB   NOT NULL,
  name         TEXT   NOT NULL,
  owner        BLOB,
  version      BIGINT NOT NULL,
  size         BIGINT NOT NULL,
  encryption   TEXT   NOT NULL,
  content_type TEXT   NOT NULL,
  description  TEXT   NOT NULL,
  labels       TEXT   NOT NULL,
  created      BIGINT NOT NULL,
  modified     BIGINT NOT NULL,
  deleted      BIGINT
);
CREATE UNIQUE INDEX deposits_by_name ON deposits (org, name);
CREATE INDEX deposits_by_owner ON deposits (org, owner, name);
CREATE INDEX deposits_by_time ON deposits (org, modified, id);

-- Inserted and deleted, never updated. The body is an envelope: the bytes themselves, or where the
-- parts are and the key that opens them.
CREATE TABLE deposit_versions (
  deposit      BLOB   NOT NULL,
  version      BIGINT NOT NULL,
  size         BIGINT NOT NULL,
  encryption   TEXT   NOT NULL,
  content_type TEXT   NOT NULL,
  created      BIGINT NOT NULL,
  created_by   TEXT   NOT NULL,
  parts        BLOB,
  body         BLOB   NOT NULL,
  PRIMARY KEY (deposit, version)
);

-- Bodies over 256 KiB, in parts; written before the version that refers to them.
CREATE TABLE deposit_parts (
  parts BLOB   NOT NULL,
  part  BIGINT NOT NULL,
  body  BLOB   NOT NULL,
  PRIMARY KEY (parts, part)
);

-- Parts whose version is not committed yet; what is left here by a crash is dropped at the start.
CREATE TABLE pending_parts (
  parts BLOB NOT NULL PRIMARY KEY
);

CREATE TABLE deposit_labels (
  deposit BLOB NOT NULL,
  label   TEXT NOT NULL,
  org     BLOB NOT NULL,
  value   TEXT NOT NULL,
  name    TEXT NOT NULL,
  PRIMARY KEY (deposit, label)
);
CREATE INDEX deposit_labels_by_value ON deposit_labels (org, label, value, name);

CREATE TABLE users (
  id       BLOB   NOT NULL PRIMARY KEY,
  name     TEXT   NOT NULL UNIQUE,
  password TEXT   NOT NULL,
  created  BIGINT NOT NULL,
  disabled BIGINT NOT NULL
);

-- org is empty where the role is on all organizations.
CREATE TABLE grants (
  user_id BLOB NOT NULL,
  role    TEXT NOT NULL,
  org     BLOB NOT NULL,
  PRIMARY KEY (user_id, role, org)
);

CREATE TABLE tokens (
  id      BLOB   NOT NULL PRIMARY KEY,
  hash    BLOB   NOT NULL UNIQUE,
  user_id BLOB   NOT NULL,
  label   TEXT   NOT NULL,
  scopes  TEXT   NOT NULL,
  created BIGINT NOT NULL,
  expires BIGINT
);
CREATE INDEX tokens_by_user ON tokens (user_id);

CREATE TABLE sessions (
  hash      BLOB   NOT NULL PRIMARY KEY,
  user_id   BLOB   NOT NULL,
  created   BIGINT NOT NULL,
  last_seen BIGINT NOT NULL
);
CREATE INDEX sessions_by_user ON sessions (user_id);

CREATE TABLE settings (
  name  TEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
);

-- The chain of changes. The number is the rowid, so that appending touches one leaf.
CREATE TABLE events (
  number INTEGER NOT NULL PRIMARY KEY,
  time   BIGINT  NOT NULL,
  object TEXT    NOT NULL,
  body   BLOB    NOT NULL,
  hash   BLOB    NOT NULL,
  tag    BLOB    NOT NULL
);
CREATE INDEX events_by_object ON events (object, number);

CREATE TABLE checkpoints (
  number    BIGINT NOT NULL PRIMARY KEY,
  time      BIGINT NOT NULL,
  body      TEXT   NOT NULL,
  signature BLOB   NOT NULL
);

CREATE TABLE idempotency (
  caller       TEXT   NOT NULL,
  key          TEXT   NOT NULL,
  request_hash BLOB   NOT NULL,
  answer       BLOB   NOT NULL,
  created      BIGINT NOT NULL,
  PRIMARY KEY (caller, key)
);
CREATE INDEX idempotency_by_time ON idempotency (created);
