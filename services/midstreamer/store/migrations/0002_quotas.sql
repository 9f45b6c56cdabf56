-- Who made each series and each learning state, and how many of them there are: quotas are held
-- against these counts in the transaction that adds to them. What was made before this migration
-- belongs to the identity '' (nobody's quota); it counts in the whole.

ALTER TABLE series ADD COLUMN identity text NOT NULL DEFAULT '';
ALTER TABLE states ADD COLUMN identity text NOT NULL DEFAULT '';

ALTER TABLE head ADD COLUMN series bigint NOT NULL DEFAULT 0;
ALTER TABLE head ADD COLUMN streams bigint NOT NULL DEFAULT 0;
CREATE TABLE identities (
    identity text PRIMARY KEY,
    series   bigint NOT NULL,
    streams  bigint NOT NULL
);

UPDATE head SET series = (SELECT count(*) FROM series), streams = (SELECT count(*) FROM states);
INSERT INTO identities (identity, series, streams)
SELECT '', series, streams FROM head WHERE series + streams > 0;
