-- When a deposit may be fetched, and how often. A limit counts in the row, in the transaction of the
-- retrieval; without a limit nothing is counted.
ALTER TABLE deposits ADD COLUMN not_before BIGINT;
ALTER TABLE deposits ADD COLUMN expires BIGINT;
ALTER TABLE deposits ADD COLUMN max_retrievals BIGINT;
ALTER TABLE deposits ADD COLUMN retrieved BIGINT NOT NULL DEFAULT 0;

-- For purging what has been in the bin long enough.
CREATE INDEX deposits_in_bin ON deposits (deleted) WHERE deleted IS NOT NULL;

-- Who may fetch a deposit beside its owner: a client, or a group of clients, of its organization.
CREATE TABLE deposit_readers (
  deposit BLOB   NOT NULL,
  reader  BLOB   NOT NULL,
  kind    TEXT   NOT NULL,
  added   BIGINT NOT NULL,
  PRIMARY KEY (deposit, reader)
);
CREATE INDEX deposit_readers_by_reader ON deposit_readers (reader, deposit);

CREATE TABLE client_groups (
  id      BLOB   NOT NULL PRIMARY KEY,
  org     BLOB   NOT NULL,
  name    TEXT   NOT NULL,
  created BIGINT NOT NULL
);
CREATE UNIQUE INDEX client_groups_by_name ON client_groups (org, name);

CREATE TABLE client_group_members (
  client_group BLOB   NOT NULL,
  client       BLOB   NOT NULL,
  added        BIGINT NOT NULL,
  PRIMARY KEY (client_group, client)
);
CREATE INDEX client_group_members_by_client ON client_group_members (client, client_group);

-- Organizations that were removed, with their keys; what they had is deleted bit by bit.
CREATE TABLE removed_orgs (
  id      BLOB   NOT NULL PRIMARY KEY,
  name    TEXT   NOT NULL,
  removed BIGINT NOT NULL
);
