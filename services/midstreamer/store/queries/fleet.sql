-- Leases and housekeeping. Here alone does PostgreSQL's clock decide anything.

-- `asked`: this incarnation has been asked to drain.
-- name: members_live
SELECT name, incarnation, address, position, held, evidence, whole_for, whole_at,
       drain = incarnation AS asked
FROM members WHERE expires > clock_timestamp() ORDER BY name;

-- name: put_member
INSERT INTO members (name, incarnation, address, position, held, evidence, whole_for, whole_at,
                     expires)
VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7, $8,
        clock_timestamp() + make_interval(secs => $9))
ON CONFLICT (name) DO UPDATE
SET incarnation = excluded.incarnation, address = excluded.address, position = excluded.position,
    held = excluded.held, evidence = excluded.evidence, whole_for = excluded.whole_for,
    whole_at = excluded.whole_at, expires = excluded.expires;

-- Most renewals tell others nothing new: one statement, which gives the fleet as well - the
-- member's own row as it was - or no row where there is news.
-- name: renew_member
WITH renewed AS (
    UPDATE members
    SET position = $4, held = $5, evidence = $6::text::jsonb, whole_at = $8,
        expires = clock_timestamp() + make_interval(secs => $9)
    WHERE name = $1 AND incarnation = $2 AND address = $3 AND whole_for = $7
        AND coalesce(evidence ->> 'stage', '') = coalesce($6::text::jsonb ->> 'stage', '')
        AND expires > clock_timestamp()
    RETURNING name
)
SELECT head.position AS head, members.name, incarnation, address, members.position, held,
       evidence, whole_for, whole_at, drain = incarnation AS asked
FROM renewed, head, members
WHERE expires > clock_timestamp() OR members.name = $1
ORDER BY members.name;

-- Only the incarnation that holds the lease now: its successor was not asked.
-- name: retire_member
UPDATE members SET drain = incarnation WHERE name = $1 AND expires > clock_timestamp()
RETURNING name, incarnation, address, position, held, evidence, whole_for, whole_at;

-- name: remove_member
DELETE FROM members WHERE name = $1 RETURNING name;

-- One row, its member NULL, where there is none.
-- name: members_all
SELECT head.position AS head, name, incarnation, address, members.position, held, evidence,
       whole_for, whole_at, expires <= clock_timestamp() AS expired
FROM head LEFT JOIN members ON true ORDER BY name;

-- name: remove_expired
DELETE FROM members WHERE expires <= clock_timestamp() RETURNING name;

-- name: extend_leases
UPDATE members SET expires = greatest(expires, clock_timestamp() + make_interval(secs => $1));

-- name: trim_feed
DELETE FROM feed WHERE position <= (SELECT position FROM head) - $1;

-- A writer that has been silent for 30 days will not come again under the same incarnation.
-- name: forget_writers
DELETE FROM writers WHERE updated < clock_timestamp() - interval '30 days';
