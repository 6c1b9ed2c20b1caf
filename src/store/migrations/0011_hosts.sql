-- Machines that are reached over SSH. `settings` is JSON: what a host or group says itself of port,
-- account, sudo, jump hosts (by name) and maintenance windows; what it leaves out is its group's.
CREATE TABLE hosts (
  id         BLOB   NOT NULL PRIMARY KEY,
  name       TEXT   NOT NULL,
  address    TEXT   NOT NULL,
  host_group TEXT,
  labels     TEXT   NOT NULL,
  state      TEXT   NOT NULL,
  settings   TEXT   NOT NULL,
  created    BIGINT NOT NULL,
  changed    BIGINT NOT NULL
);
CREATE UNIQUE INDEX hosts_by_name ON hosts (name);
CREATE INDEX hosts_by_group ON hosts (host_group, name);

-- A group lies in the group that its path names before the last `/`.
CREATE TABLE host_groups (
  path     TEXT   NOT NULL PRIMARY KEY,
  settings TEXT   NOT NULL,
  created  BIGINT NOT NULL
);
