-- What an organization and a client keep: deposits, those in the bin too, and the bytes of all their
-- versions, counted in the transaction of each change. A limit that is null is none.
ALTER TABLE orgs ADD COLUMN bytes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE orgs ADD COLUMN quota_objects BIGINT;
ALTER TABLE orgs ADD COLUMN quota_bytes BIGINT;
ALTER TABLE orgs ADD COLUMN quota_requests BIGINT;

ALTER TABLE clients ADD COLUMN deposits BIGINT NOT NULL DEFAULT 0;
ALTER TABLE clients ADD COLUMN bytes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE clients ADD COLUMN quota_objects BIGINT;
ALTER TABLE clients ADD COLUMN quota_bytes BIGINT;
ALTER TABLE clients ADD COLUMN quota_requests BIGINT;

UPDATE orgs SET bytes = (
  SELECT coalesce(sum(v.size), 0)
  FROM deposits d JOIN deposit_versions v ON v.deposit = d.id
  WHERE d.org = orgs.id
);
UPDATE clients SET
  deposits = (SELECT count(*) FROM deposits d WHERE d.org = clients.org AND d.owner = clients.id),
  bytes = (
    SELECT coalesce(sum(v.size), 0)
    FROM deposits d JOIN deposit_versions v ON v.deposit = d.id
    WHERE d.org = clients.org AND d.owner = clients.id
  );
