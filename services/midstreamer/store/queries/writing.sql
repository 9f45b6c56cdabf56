-- Queries of the write transaction: first its stable reads, then the rows that it adds.

-- Locks the row with the feed's position; waits until no other transaction writes.
-- name: lock_head
SELECT position FROM head FOR UPDATE;

-- name: summaries
SELECT id, name, count, first_time, last_time, last_value FROM series WHERE name = ANY($1::text[]);

-- name: ticks_at
SELECT time, value FROM points
WHERE series_id = $1 AND time = ANY($2::bigint[]) ORDER BY time;

-- The stored values of runs of positions, big-endian, in one row for each run.
-- name: windows
SELECT r.place, w.values
FROM unnest($1::text[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS r(series, start, stop, place)
JOIN series s ON s.name = r.series
CROSS JOIN LATERAL (
    SELECT string_agg(float8send(p.value), ''::bytea ORDER BY p.index) AS values
    FROM points p WHERE p.series_id = s.id AND p.index >= r.start AND p.index < r.stop
) AS w
WHERE w.values IS NOT NULL;

-- name: points_at
SELECT s.name, p.index, p.time, p.value
FROM unnest($1::text[], $2::bigint[]) AS k(name, index)
JOIN series s ON s.name = k.name
JOIN points p ON p.series_id = s.id AND p.index = k.index;

-- name: due
SELECT d.experience_id, d.body
FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS r(series, start, stop)
JOIN decisions d
  ON d.series = r.series AND d.due_index >= 0 AND d.due_index >= r.start AND d.due_index < r.stop
WHERE NOT EXISTS (SELECT FROM verdicts v WHERE v.experience_id = d.experience_id);

-- name: settled
SELECT v.body
FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS r(series, first, last)
JOIN verdicts v ON v.series = r.series AND v.due_time BETWEEN r.first AND r.last
ORDER BY v.due_time DESC, v.series, v.experience_id LIMIT $4;

-- Locks the streams that learn, in sorted order, so that two transactions cannot deadlock.
-- name: lock_streams
SELECT pg_advisory_xact_lock(hashtextextended(stream, 42))
FROM (SELECT stream FROM unnest($1::text[]) AS stream ORDER BY stream) AS sorted;

-- name: states_unknown
SELECT s.stream, s.version, s.body
FROM unnest($1::text[], $2::bigint[]) AS k(stream, version)
JOIN states s ON s.stream = k.stream AND s.version <> k.version;

-- name: streams_known
SELECT stream FROM states WHERE stream = ANY($1::text[]);

-- The counts of all identities together (identity NULL), and of each identity that created some.
-- name: usage
SELECT NULL AS identity, series, streams FROM head
UNION ALL
SELECT identity, series, streams FROM identities WHERE identity = ANY($1::text[]);

-- name: marks
SELECT w.identity, w.incarnation, w.sequence, w.gaps, w.repeats
FROM unnest($1::text[], $2::text[]) AS k(identity, incarnation)
JOIN writers w ON w.identity = k.identity AND w.incarnation = k.incarnation;

-- name: put_series
INSERT INTO series AS s (name, count, first_time, last_time, last_value, identity)
SELECT * FROM unnest($name::text[], $count::bigint[], $first_time::bigint[],
    $last_time::bigint[], $last_value::float8[], $identity::text[])
ON CONFLICT (name) DO UPDATE
SET count = s.count + excluded.count, last_time = excluded.last_time, last_value = excluded.last_value
RETURNING s.id, s.name, s.count;

-- name: add_points
INSERT INTO points (series_id, index, time, value)
SELECT * FROM unnest($series_id::integer[], $index::bigint[], $time::bigint[], $value::float8[]);

-- name: add_specifications
INSERT INTO specifications (digest, stream, body)
SELECT digest, stream, body::jsonb
FROM unnest($digest::text[], $stream::text[], $body::text[]) AS u(digest, stream, body)
ON CONFLICT DO NOTHING;

-- name: add_decisions
INSERT INTO decisions (experience_id, specification, series, time, index, due_index, direction,
    reason, probability, confidence, low, high, state_version, library, kernel, body)
SELECT * FROM unnest($experience_id::bytea[], $specification::text[], $series::text[],
    $time::bigint[], $index::bigint[], $due_index::bigint[], $direction::text[], $reason::text[],
    $probability::float8[], $confidence::float8[], $low::float8[], $high::float8[],
    $state_version::bigint[], $library::text[], $kernel::text[], $body::bytea[]);

-- name: add_verdicts
INSERT INTO verdicts (experience_id, series, time, due_time, change, outcome, hit, covered, brier,
    winkler, body)
SELECT * FROM unnest($experience_id::bytea[], $series::text[], $time::bigint[],
    $due_time::bigint[], $change::float8[], $outcome::float8[], $hit::boolean[],
    $covered::boolean[], $brier::float8[], $winkler::float8[], $body::bytea[]);

-- name: add_events
INSERT INTO events (stream, version, kind, experience_id)
SELECT * FROM unnest($stream::text[], $version::bigint[], $kind::text[], $experience_id::bytea[]);

-- Replaces a state only if the stored version is the one from which the new state was learned.
-- Otherwise the stream is missing in the result, and the caller aborts the transaction.
-- name: put_states
WITH given AS (
    SELECT stream, specification::jsonb AS specification, before, version, body, identity
    FROM unnest($stream::text[], $specification::text[], $before::bigint[], $version::bigint[],
        $body::bytea[], $identity::text[])
        AS u(stream, specification, before, version, body, identity)
), changed AS (
    UPDATE states s SET version = g.version, body = g.body
    FROM given g WHERE s.stream = g.stream AND s.version = g.before
    RETURNING s.stream
), made AS (
    INSERT INTO states (stream, specification, version, body, identity)
    SELECT stream, specification, version, body, identity FROM given WHERE before = 0
    ON CONFLICT DO NOTHING RETURNING stream
)
SELECT stream FROM changed UNION ALL SELECT stream FROM made;

-- name: add_snapshots
INSERT INTO snapshots (stream, version, body)
SELECT * FROM unnest($stream::text[], $version::bigint[], $body::bytea[]);

-- name: put_marks
INSERT INTO writers (identity, incarnation, sequence, gaps, repeats)
SELECT * FROM unnest($identity::text[], $incarnation::text[], $sequence::bigint[],
    $gaps::bigint[], $repeats::bigint[])
ON CONFLICT (identity, incarnation) DO UPDATE
SET sequence = excluded.sequence, gaps = excluded.gaps, repeats = excluded.repeats,
    updated = clock_timestamp();

-- name: add_feed
INSERT INTO feed (position, body) SELECT * FROM unnest($position::bigint[], $body::bytea[]);

-- name: add_usage
INSERT INTO identities AS i (identity, series, streams)
SELECT * FROM unnest($identity::text[], $series::bigint[], $streams::bigint[])
ON CONFLICT (identity) DO UPDATE
SET series = i.series + excluded.series, streams = i.streams + excluded.streams;

-- The last statement of every transaction that adds to the feed. PostgreSQL delivers the
-- notification only if the transaction commits.
-- name: advance_head
WITH advanced AS (
    UPDATE head SET position = $1, decisions = decisions + $2, verdicts = verdicts + $3,
        series = series + $4, streams = streams + $5
    RETURNING position
)
SELECT pg_notify('midstreamer_feed', position::text) FROM advanced;
