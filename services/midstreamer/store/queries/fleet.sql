-- Leases and housekeeping. Here alone does PostgreSQL's clock decide anything.

-- name: members_live
SELECT name, incarnation, address, position, holdings, evidence
FROM members WHERE expires > clock_timestamp() ORDER BY name;

-- name: put_member
INSERT INTO members (name, incarnation, address, position, holdings, evidence, expires)
VALUES ($1, $2, $3, $4, $5::text::jsonb, $6::text::jsonb,
        clock_timestamp() + make_interval(secs => $7))
ON CONFLICT (name) DO UPDATE
SET incarnation = excluded.incarnation, address = excluded.address, position = excluded.position,
    holdings = excluded.holdings, evidence = excluded.evidence, expires = excluded.expires;

-- name: remove_member
DELETE FROM members WHERE name = $1 RETURNING name;

-- name: members_expired
SELECT count(*) FROM members WHERE expires <= clock_timestamp();

-- name: remove_expired
DELETE FROM members WHERE expires <= clock_timestamp() RETURNING name;

-- name: extend_leases
UPDATE members SET expires = greatest(expires, clock_timestamp() + make_interval(secs => $1));

-- name: trim_feed
DELETE FROM feed WHERE position <= (SELECT position FROM head) - $1;

-- A writer that has been silent for 30 days will not come again under the same incarnation.
-- name: forget_writers
DELETE FROM writers WHERE updated < clock_timestamp() - interval '30 days';
