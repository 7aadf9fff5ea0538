-- Alerts as the gateways raised them. A higher revision replaces a lower one.

CREATE TABLE alert (
    farm_id    text NOT NULL,
    alert_id   text NOT NULL,
    station_id text NOT NULL,
    channel    text,                              -- null: the whole station
    kind       text NOT NULL CHECK (kind IN ('anomaly', 'stuck', 'spike', 'dropout', 'silent')),
    opened     timestamptz NOT NULL,
    updated    timestamptz NOT NULL,
    closed     timestamptz,
    score      double precision NOT NULL,
    threshold  double precision NOT NULL,
    value      double precision,
    drivers    jsonb NOT NULL,                    -- [{"channel": text, "share": number}], most first
    model      text,
    revision   integer NOT NULL,
    message    text NOT NULL,
    PRIMARY KEY (farm_id, alert_id),
    FOREIGN KEY (farm_id, station_id) REFERENCES station (farm_id, station_id)
);
-- Lists run from the newest, over the farm or over one station; most look at open ones, which are few.
CREATE INDEX alert_newest ON alert (farm_id, opened DESC, alert_id DESC);
CREATE INDEX alert_station ON alert (farm_id, station_id, opened DESC, alert_id DESC);
CREATE INDEX alert_open ON alert (farm_id, opened DESC, alert_id DESC) WHERE closed IS NULL;
