-- The catalogue is read in pages, by name in the order of code points.
CREATE INDEX series_in_order ON series (name COLLATE "C");

-- A lease says how many shards its member holds, and for which list of agents it holds all its
-- own; it no longer lists them.
ALTER TABLE members
    ADD COLUMN held      bigint NOT NULL DEFAULT 0,
    ADD COLUMN whole_for text   NOT NULL DEFAULT '',
    ADD COLUMN whole_at  bigint NOT NULL DEFAULT 0,
    ALTER COLUMN holdings SET DEFAULT '[]';
