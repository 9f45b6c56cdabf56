-- The first schema. Times are event time, microseconds since 1970-01-01 UTC; PostgreSQL's own
-- clock is used for leases and for forgetting old writers, nowhere else.

-- One row for the whole database. Updating it is the first thing a writer does, so writers are
-- serial and the feed's order is the order of commits. The counts spare a scan of the tables.
CREATE TABLE head (
    single    boolean PRIMARY KEY DEFAULT true CHECK (single),
    position  bigint NOT NULL DEFAULT 0,
    decisions bigint NOT NULL DEFAULT 0,
    verdicts  bigint NOT NULL DEFAULT 0
);
INSERT INTO head DEFAULT VALUES;

CREATE TABLE series (
    id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL UNIQUE,
    count      bigint NOT NULL,
    first_time bigint NOT NULL,
    last_time  bigint NOT NULL,
    last_value double precision NOT NULL
);

-- No foreign key: it would cost a look-up for every one of the many rows, and only the
-- transaction that writes the series row writes here.
CREATE TABLE points (
    series_id integer NOT NULL,
    index     bigint NOT NULL,
    time      bigint NOT NULL,
    value     double precision NOT NULL,
    PRIMARY KEY (series_id, index),
    UNIQUE (series_id, time)
);

CREATE TABLE specifications (
    digest text PRIMARY KEY,
    stream text NOT NULL,
    body   jsonb NOT NULL
);

-- body is the whole decision (msgpack); the columns beside it are for people and for queries.
CREATE TABLE decisions (
    experience_id bytea PRIMARY KEY,
    specification text NOT NULL REFERENCES specifications (digest),
    series        text NOT NULL,
    time          bigint NOT NULL,
    index         bigint NOT NULL,
    due_index     bigint NOT NULL,
    direction     text,
    reason        text,
    probability   double precision NOT NULL,
    confidence    double precision NOT NULL,
    low           double precision NOT NULL,
    high          double precision NOT NULL,
    state_version bigint NOT NULL,
    library       text NOT NULL,
    kernel        text NOT NULL,
    body          bytea NOT NULL
);
CREATE INDEX decisions_due ON decisions (series, due_index) WHERE due_index >= 0;

CREATE TABLE verdicts (
    experience_id bytea PRIMARY KEY REFERENCES decisions (experience_id),
    series        text NOT NULL,
    time          bigint NOT NULL,
    due_time      bigint NOT NULL,
    change        double precision NOT NULL,
    outcome       double precision NOT NULL,
    hit           boolean NOT NULL,
    covered       boolean NOT NULL,
    brier         double precision NOT NULL,
    winkler       double precision NOT NULL,
    body          bytea NOT NULL
);
CREATE INDEX verdicts_due ON verdicts (series, due_time);

-- The newest learning state of each stream, some older ones, and what each version learned from:
-- any version can be folded again from the snapshot before it.
CREATE TABLE states (
    stream        text PRIMARY KEY,
    specification jsonb NOT NULL,
    version       bigint NOT NULL,
    body          bytea NOT NULL
);
CREATE TABLE snapshots (
    stream  text NOT NULL,
    version bigint NOT NULL,
    body    bytea NOT NULL,
    PRIMARY KEY (stream, version)
);
CREATE TABLE events (
    stream        text NOT NULL,
    version       bigint NOT NULL,
    kind          text NOT NULL CHECK (kind IN ('D', 'V')),
    experience_id bytea NOT NULL REFERENCES decisions (experience_id),
    PRIMARY KEY (stream, version),
    UNIQUE (experience_id, kind)
);

CREATE TABLE writers (
    identity    text NOT NULL,
    incarnation text NOT NULL,
    sequence    bigint NOT NULL,
    gaps        bigint NOT NULL,
    repeats     bigint NOT NULL,
    updated     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (identity, incarnation)
);

CREATE TABLE members (
    name        text PRIMARY KEY,
    incarnation text NOT NULL,
    address     text NOT NULL,
    position    bigint NOT NULL,
    holdings    jsonb NOT NULL,
    evidence    jsonb NOT NULL,
    expires     timestamptz NOT NULL
);

-- Positions are contiguous. The body of a Learned is left out: states holds the newest.
CREATE TABLE feed (
    position bigint PRIMARY KEY,
    body     bytea NOT NULL
);
