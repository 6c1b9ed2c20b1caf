-- Work that outlives its request. A worker holds a job by a lease, under a generation that grows with
-- each claim: what an earlier holder reports is refused. `boot` names the process that holds it.
CREATE TABLE jobs (
  id          BLOB   NOT NULL PRIMARY KEY,
  kind        TEXT   NOT NULL,
  lane        TEXT   NOT NULL,
  target      TEXT   NOT NULL,
  org         BLOB,
  parameters  TEXT   NOT NULL,
  schedule    TEXT,
  parent      BLOB,
  created     BIGINT NOT NULL,
  created_by  TEXT   NOT NULL,
  state       TEXT   NOT NULL,
  released    BIGINT NOT NULL,
  not_before  BIGINT NOT NULL,
  started     BIGINT,
  ended       BIGINT,
  attempts    BIGINT NOT NULL,
  lost        BIGINT NOT NULL,
  generation  BIGINT NOT NULL,
  lease_until BIGINT,
  boot        BLOB,
  cancelled   BIGINT NOT NULL,
  done        BIGINT NOT NULL,
  total       BIGINT NOT NULL,
  unit        TEXT   NOT NULL,
  outcome     TEXT   NOT NULL
);
CREATE INDEX jobs_by_state ON jobs (state, lane, id);
CREATE INDEX jobs_by_org ON jobs (org, id);
CREATE INDEX jobs_by_parent ON jobs (parent, id);
CREATE INDEX jobs_by_schedule ON jobs (schedule, id);
CREATE INDEX jobs_by_end ON jobs (ended) WHERE ended IS NOT NULL;

CREATE TABLE job_logs (
  job    BLOB   NOT NULL,
  number BIGINT NOT NULL,
  time   BIGINT NOT NULL,
  text   TEXT   NOT NULL,
  PRIMARY KEY (job, number)
);

-- When which kind of job is made. Times before `since` are none of its own: it was made, changed or
-- resumed then.
CREATE TABLE schedules (
  name       TEXT   NOT NULL PRIMARY KEY,
  kind       TEXT   NOT NULL,
  cron       TEXT   NOT NULL,
  zone       TEXT   NOT NULL,
  parameters TEXT   NOT NULL,
  paused     BIGINT NOT NULL,
  created    BIGINT NOT NULL,
  since      BIGINT NOT NULL
);

-- The times at which a schedule made its job, so that none does so twice.
CREATE TABLE schedule_runs (
  schedule TEXT   NOT NULL,
  due      BIGINT NOT NULL,
  job      BLOB   NOT NULL,
  PRIMARY KEY (schedule, due)
);
