-- Releases and refusals: one row a segment of events, appended about every 50 ms.
CREATE TABLE segments (
  first      INTEGER NOT NULL PRIMARY KEY,
  last       BIGINT  NOT NULL,
  first_time BIGINT  NOT NULL,
  last_time  BIGINT  NOT NULL,
  previous   BLOB    NOT NULL,
  hash       BLOB    NOT NULL,
  tag        BLOB    NOT NULL,
  body       BLOB    NOT NULL
);
