-- What a farm has. Every table of a farm's data has farm_id first in its primary key, in every unique constraint and in
-- every foreign key, so that the tables can be distributed by farm over many machines (Citus) as they are.

CREATE TABLE farm (
    farm_id   text PRIMARY KEY,
    name      text NOT NULL,
    timezone  text NOT NULL,              -- IANA name
    latitude  double precision NOT NULL CHECK (latitude BETWEEN -90 AND 90),
    longitude double precision NOT NULL CHECK (longitude BETWEEN -180 AND 180)
);

CREATE TABLE field (
    farm_id        text NOT NULL REFERENCES farm (farm_id),
    field_id       text NOT NULL,
    name           text NOT NULL,
    crop           text NOT NULL,
    soil           text NOT NULL,
    field_capacity double precision NOT NULL,  -- volumetric water content, m3/m3
    wilting_point  double precision NOT NULL,
    refill_point   double precision NOT NULL,
    PRIMARY KEY (farm_id, field_id),
    CHECK (0 <= wilting_point AND wilting_point <= refill_point AND refill_point <= field_capacity AND field_capacity <= 1)
);

-- A station is there from its first record on; what only its birth says is null until then.
CREATE TABLE station (
    farm_id    text NOT NULL REFERENCES farm (farm_id),
    station_id text NOT NULL,
    field_id   text,
    latitude   double precision,
    longitude  double precision,
    interval_s bigint,
    report_s   bigint,
    firmware   text,
    channels   jsonb NOT NULL DEFAULT '[]',
    born       timestamptz,               -- when the birth that the columns above are from was sent
    last_heard timestamptz,               -- end of the latest window, or the latest birth
    PRIMARY KEY (farm_id, station_id),
    FOREIGN KEY (farm_id, field_id) REFERENCES field (farm_id, field_id)
);

CREATE TABLE gateway (
    farm_id      text NOT NULL REFERENCES farm (farm_id),
    gateway_id   text NOT NULL,
    name         text NOT NULL,
    token_sha256 bytea NOT NULL CHECK (length(token_sha256) = 32),
    last_seen    timestamptz,
    status       jsonb,                   -- its latest report of itself
    PRIMARY KEY (farm_id, gateway_id)
);
-- A request bears a token and no farm. Tokens are random, so the index need not be unique to find one gateway.
CREATE INDEX gateway_token ON gateway (token_sha256);

-- The highest sequence of each lane whose records are stored; written in the transaction that stores them.
CREATE TABLE uplink_progress (
    farm_id    text NOT NULL,
    gateway_id text NOT NULL,
    lane       text NOT NULL,
    sequence   bigint NOT NULL,
    PRIMARY KEY (farm_id, gateway_id, lane),
    FOREIGN KEY (farm_id, gateway_id) REFERENCES gateway (farm_id, gateway_id)
);
