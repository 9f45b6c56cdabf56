-- Queries that only read. A line with the name comes before each query; `store.queries` loads them.

-- name: position
SELECT position FROM head;

-- name: totals
SELECT position, decisions, verdicts,
       (SELECT coalesce(sum(count), 0)::bigint FROM series) AS ticks
FROM head;

-- Sorts by code points, whatever the collation of the database is.
-- name: summaries_after
SELECT name, count, first_time, last_time, last_value FROM series
WHERE name COLLATE "C" > $1 ORDER BY name COLLATE "C" LIMIT $2;

-- name: series_counts
SELECT id, name, count FROM series WHERE name = ANY($1::text[]);

-- The points of runs, for COPY: numpy decodes its format without a Python object per row. $1 is
-- replaced by rows of (number of the run, series id, start, stop).
-- name: points_copy
SELECT r.place, p.time, p.value
FROM (VALUES $1) AS r(place, series_id, start, stop)
CROSS JOIN LATERAL (
    SELECT time, value FROM points
    WHERE series_id = r.series_id AND index >= r.start AND index < r.stop ORDER BY index
) AS p;

-- name: decisions_by_id
SELECT experience_id, body FROM decisions WHERE experience_id = ANY($1::bytea[]);

-- name: verdicts_by_id
SELECT body FROM verdicts WHERE experience_id = ANY($1::bytea[]);

-- name: feed_after
SELECT position, body FROM feed WHERE position > $1 ORDER BY position LIMIT $2;

-- name: states_of
SELECT stream, version, body FROM states WHERE stream = ANY($1::text[]);

-- name: state_of
SELECT stream, version, body FROM states WHERE stream = $1;

-- name: states_all
SELECT stream, version, body, specification FROM states ORDER BY stream;

-- name: snapshot_before
SELECT stream, version, body FROM snapshots
WHERE stream = $1 AND version <= $2 ORDER BY version DESC LIMIT 1;

-- name: events_between
SELECT e.kind, CASE e.kind WHEN 'D' THEN d.body ELSE v.body END AS body
FROM events e
LEFT JOIN decisions d ON e.kind = 'D' AND d.experience_id = e.experience_id
LEFT JOIN verdicts v ON e.kind = 'V' AND v.experience_id = e.experience_id
WHERE e.stream = $1 AND e.version > $2 AND e.version <= $3
ORDER BY e.version;

-- Number of rows of each table. Points are counted by the counts of their series, which is cheap.
-- name: row_counts
SELECT 'series' AS name, count(*) AS rows FROM series
UNION ALL SELECT 'points', coalesce(sum(count), 0)::bigint FROM series
UNION ALL SELECT 'decisions', decisions FROM head
UNION ALL SELECT 'verdicts', verdicts FROM head
UNION ALL SELECT 'specifications', count(*) FROM specifications
UNION ALL SELECT 'states', count(*) FROM states
UNION ALL SELECT 'snapshots', count(*) FROM snapshots
UNION ALL SELECT 'events', coalesce(sum(version), 0)::bigint FROM states
UNION ALL SELECT 'writers', count(*) FROM writers
UNION ALL SELECT 'members', count(*) FROM members
UNION ALL SELECT 'feed', count(*) FROM feed;

-- name: table_sizes
SELECT c.relname AS name, pg_total_relation_size(c.oid) AS bytes
FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace
ORDER BY c.relname;
