-- Invariants of the stored rows. Each query returns a sentence for every place that breaks one.

-- name: check_points_contiguous
SELECT format('series %s: %s points at positions %s to %s, and its row says %s', s.name,
              count(p.index), min(p.index), max(p.index), s.count)
FROM series s LEFT JOIN points p ON p.series_id = s.id
GROUP BY s.id HAVING count(p.index) <> s.count OR min(p.index) <> 0 OR max(p.index) <> s.count - 1;

-- name: check_points_ordered
SELECT format('series %s: point %s is not later than the one before it', s.name, q.index)
FROM (SELECT series_id, index, time, lag(time) OVER (PARTITION BY series_id ORDER BY index) AS before
      FROM points) AS q JOIN series s ON s.id = q.series_id
WHERE q.before >= q.time LIMIT 100;

-- name: check_settled
SELECT format('decision %s of %s: due at position %s, which is stored, and has no verdict',
              encode(d.experience_id, 'hex'), d.series, d.due_index)
FROM decisions d JOIN series s ON s.name = d.series
WHERE d.due_index >= 0 AND d.due_index < s.count
  AND NOT EXISTS (SELECT FROM verdicts v WHERE v.experience_id = d.experience_id)
LIMIT 100;

-- name: check_verdict_time
SELECT format('verdict %s of %s: due time %s is not the time of position %s',
              encode(v.experience_id, 'hex'), d.series, v.due_time, d.due_index)
FROM verdicts v JOIN decisions d USING (experience_id) JOIN series s ON s.name = d.series
LEFT JOIN points p ON p.series_id = s.id AND p.index = d.due_index
WHERE p.time IS DISTINCT FROM v.due_time LIMIT 100;

-- name: check_learned_decisions
SELECT format('decision %s of %s: settles and was never learned', encode(d.experience_id, 'hex'), d.series)
FROM decisions d
WHERE d.due_index >= 0 AND NOT EXISTS (
    SELECT FROM events e WHERE e.experience_id = d.experience_id AND e.kind = 'D') LIMIT 100;

-- name: check_versions
SELECT format('stream %s: state has version %s, and %s events up to %s were learned', s.stream,
              s.version, count(e.version), coalesce(max(e.version), 0))
FROM states s LEFT JOIN events e ON e.stream = s.stream
GROUP BY s.stream, s.version
HAVING count(e.version) <> s.version OR coalesce(max(e.version), 0) <> s.version;

-- name: check_counts
SELECT format('head counts %s decisions and %s verdicts; there are %s and %s', h.decisions,
              h.verdicts, d.count, v.count)
FROM head h, (SELECT count(*) FROM decisions) AS d, (SELECT count(*) FROM verdicts) AS v
WHERE h.decisions <> d.count OR h.verdicts <> v.count;

-- name: check_usage
SELECT format('head counts %s series and %s streams; there are %s and %s', h.series, h.streams,
              s.count, t.count)
FROM head h, (SELECT count(*) FROM series) AS s, (SELECT count(*) FROM states) AS t
WHERE h.series <> s.count OR h.streams <> t.count;

-- name: check_usage_of_identities
SELECT format('identity %L: %s series and %s streams are counted; it made %s and %s', identity,
              coalesce(i.series, 0), coalesce(i.streams, 0), coalesce(m.series, 0),
              coalesce(m.streams, 0))
FROM identities i
FULL JOIN (SELECT identity, sum(series) AS series, sum(streams) AS streams
           FROM (SELECT identity, 1 AS series, 0 AS streams FROM series
                 UNION ALL SELECT identity, 0, 1 FROM states) AS one
           GROUP BY identity) AS m USING (identity)
WHERE (coalesce(i.series, 0), coalesce(i.streams, 0))
    <> (coalesce(m.series, 0), coalesce(m.streams, 0)) LIMIT 100;

-- name: check_feed
SELECT format('feed holds %s changes between %s and %s, and the head is at %s', count(*),
              min(f.position), max(f.position), h.position)
FROM feed f, head h GROUP BY h.position
HAVING max(f.position) <> h.position OR max(f.position) - min(f.position) + 1 <> count(*);
