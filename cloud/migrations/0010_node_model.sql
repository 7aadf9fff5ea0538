-- Models that run on the nodes themselves. The versions are shared by all farms, like those of gateways.

-- A row is never changed: a version is what it was pushed as.
CREATE TABLE node_model_version (
    name       text NOT NULL,
    version    text NOT NULL,
    sha256     bytea NOT NULL REFERENCES blob (sha256),
    bytes      bigint NOT NULL,
    channels   jsonb NOT NULL,                                 -- what it looks at
    steps      bigint NOT NULL,                                -- samples looked back
    hidden     bigint NOT NULL,                                -- units
    trained_on text NOT NULL,                                  -- in words
    pushed_at  timestamptz NOT NULL,                           -- by the wall clock: it is of no farm
    pushed_by  text NOT NULL,
    PRIMARY KEY (name, version)
);

-- Which of them a farm's nodes are to run, and on which stations. Rows are only added: the one of the highest serial holds.
CREATE TABLE node_rollout (
    farm_id     text NOT NULL REFERENCES farm (farm_id),
    serial      bigint NOT NULL CHECK (serial > 0),
    name        text NOT NULL,
    version     text NOT NULL,
    what        text NOT NULL CHECK (what IN ('go', 'pause', 'abort')),
    stations    jsonb NOT NULL,                                -- named ones
    share       double precision NOT NULL,                     -- of all, beside them
    most_failed double precision NOT NULL,
    changed_at  timestamptz NOT NULL,                          -- in farm time
    changed_by  text NOT NULL,
    PRIMARY KEY (farm_id, serial),
    FOREIGN KEY (name, version) REFERENCES node_model_version (name, version)
);
