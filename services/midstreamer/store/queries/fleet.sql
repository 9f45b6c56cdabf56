-- Leases and housekeeping. Only the queries in this file depend on PostgreSQL's clock.

-- `asked` is true if this incarnation of the member has been asked to drain.
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

-- Most renewals change nothing that other members can see. Then this single statement renews the
-- lease and returns all members, with the member's own row as it was before. Otherwise it changes
-- nothing and returns no row.
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

-- Asks only the incarnation that holds the lease now; its successor is not asked.
-- name: retire_member
UPDATE members SET drain = incarnation WHERE name = $1 AND expires > clock_timestamp()
RETURNING name, incarnation, address, position, held, evidence, whole_for, whole_at;

-- name: remove_member
DELETE FROM members WHERE name = $1 RETURNING name;

-- If there is no member, returns one row whose member columns are NULL.
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

-- Deletes the marks of writers that sent no Write for 30 days: their incarnations have ended.
-- name: forget_writers
DELETE FROM writers WHERE updated < clock_timestamp() - interval '30 days';
