-- Queries of `midstreamer db check`. All of them read the same snapshot.

-- Number of rows of each table, to show progress.
-- name: audit_totals
SELECT (SELECT count(*) FROM series) AS series,
       (SELECT count(*) FROM feed) AS feed,
       (SELECT count(*) FROM decisions WHERE time >= $1) AS decisions,
       (SELECT count(*) FROM verdicts WHERE due_time >= $1) AS verdicts;

-- name: audit_migrations
SELECT number, name, checksum, compatible FROM migrations ORDER BY number;

-- name: audit_series
SELECT s.name, s.count, s.first_time, s.last_time, s.last_value,
       a.time AS first_there, z.index + 1 AS count_there, z.time AS last_there, z.value AS value_there
FROM series s
LEFT JOIN points a ON a.series_id = s.id AND a.index = 0
LEFT JOIN LATERAL (
    SELECT p.index, p.time, p.value FROM points p WHERE p.series_id = s.id
    ORDER BY p.index DESC LIMIT 1
) AS z ON true
ORDER BY s.name;

-- Points without a series, and points whose value no tick may have. A stored zero must be positive;
-- float8send shows the sign of a zero.
-- name: audit_points
SELECT p.series_id, p.index, p.value, s.name
FROM points p LEFT JOIN series s ON s.id = p.series_id
WHERE s.id IS NULL OR p.value IN ('NaN', 'Infinity', '-Infinity')
   OR (p.value = 0 AND float8send(p.value) <> float8send(0))
ORDER BY p.series_id, p.index;

-- name: audit_specifications
SELECT digest, stream, body::text AS body FROM specifications ORDER BY digest;

-- name: audit_states
SELECT stream, specification::text AS specification, version, body FROM states ORDER BY stream;

-- name: audit_snapshots
SELECT s.stream, s.version FROM snapshots s
WHERE s.version % $1 <> 0
   OR NOT EXISTS (SELECT FROM states t WHERE t.stream = s.stream AND t.version >= s.version)
ORDER BY s.stream, s.version;

-- name: audit_snapshot
SELECT body FROM snapshots WHERE stream = $1 AND version = $2;

-- name: audit_stray_events
SELECT e.stream, e.version FROM events e
WHERE NOT EXISTS (SELECT FROM states t WHERE t.stream = e.stream)
ORDER BY e.stream, e.version;

-- name: audit_least_version
SELECT min(state_version) AS version FROM decisions WHERE specification = $1 AND time >= $2;

-- name: audit_events
SELECT e.version, e.kind, e.experience_id, CASE e.kind WHEN 'D' THEN d.body ELSE v.body END AS body
FROM events e
LEFT JOIN decisions d ON e.kind = 'D' AND d.experience_id = e.experience_id
LEFT JOIN verdicts v ON e.kind = 'V' AND v.experience_id = e.experience_id
WHERE e.stream = $1 AND e.version > $2
ORDER BY e.version;

-- Verdicts without an event, which is right only if the stream cannot learn them.
-- name: audit_unlearned
SELECT v.experience_id, v.body FROM verdicts v JOIN decisions d USING (experience_id)
WHERE d.specification = $1 AND NOT EXISTS (
    SELECT FROM events e WHERE e.experience_id = v.experience_id AND e.kind = 'V')
ORDER BY v.due_time, v.experience_id;

-- Decisions of a specification, in the order of the states from which they were made.
-- name: audit_decisions
SELECT experience_id, specification, series, time, index, due_index, direction, reason, probability,
       confidence, low, high, state_version, library, kernel, body
FROM decisions WHERE specification = $1 AND time >= $2
ORDER BY state_version, time, experience_id;

-- name: audit_stray_decisions
SELECT experience_id, specification FROM decisions d
WHERE NOT EXISTS (SELECT FROM specifications s WHERE s.digest = d.specification)
ORDER BY experience_id;

-- name: audit_verdicts
SELECT v.experience_id, v.series, v.time, v.due_time, v.change, v.outcome, v.hit, v.covered,
       v.brier, v.winkler, v.body, d.body AS decision
FROM verdicts v LEFT JOIN decisions d ON d.experience_id = v.experience_id
WHERE v.due_time >= $1;

-- name: audit_feed
SELECT position, body FROM feed ORDER BY position;

-- Positions, times and values of runs of positions, big-endian, in one row for each run.
-- name: audit_runs
SELECT r.place, w.indices, w.times, w.values
FROM unnest($1::text[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS r(series, start, stop, place)
JOIN series s ON s.name = r.series
CROSS JOIN LATERAL (
    SELECT string_agg(int8send(p.index), ''::bytea ORDER BY p.index) AS indices,
           string_agg(int8send(p.time), ''::bytea ORDER BY p.index) AS times,
           string_agg(float8send(p.value), ''::bytea ORDER BY p.index) AS values
    FROM points p WHERE p.series_id = s.id AND p.index >= r.start AND p.index < r.stop
) AS w
WHERE w.indices IS NOT NULL;
