-- The keys by whose certificates API users come. One key belongs to one user, and to no client.
CREATE TABLE user_certificates (
  spki        BLOB   NOT NULL PRIMARY KEY,
  user_id     BLOB   NOT NULL,
  certificate BLOB   NOT NULL,
  added       BIGINT NOT NULL
);
CREATE INDEX user_certificates_by_user ON user_certificates (user_id, added);
