-- What the stations measured: a row for each channel and window, partitioned by month, and its roll-ups by hour and by
-- day (UTC). The roll-ups of an hour are always what its windows say: they are made anew in the transaction that changes
-- a window.
--
-- There is no foreign key to station: ingest makes and locks the station rows of a batch first, once a station and not
-- once a row, and a new partition needs no lock on station.

CREATE TABLE aggregate (
    farm_id            text NOT NULL,
    station_id         text NOT NULL,
    channel            text NOT NULL,
    start              timestamptz NOT NULL,
    length_s           integer NOT NULL,
    revision           integer NOT NULL,
    count              integer NOT NULL,          -- accepted readings
    min                double precision,          -- of the accepted ones; null when count is 0
    mean               double precision,
    max                double precision,
    stddev             double precision,          -- of the population
    rejected_range     integer NOT NULL,          -- rejected readings by reason
    rejected_rate      integer NOT NULL,
    rejected_hampel    integer NOT NULL,
    rejected_late      integer NOT NULL,
    rejected_future    integer NOT NULL,
    rejected_duplicate integer NOT NULL,
    rejected           integer NOT NULL GENERATED ALWAYS AS (rejected_range + rejected_rate + rejected_hampel
                           + rejected_late + rejected_future + rejected_duplicate) STORED,
    rejected_min       double precision,
    rejected_max       double precision,
    PRIMARY KEY (farm_id, station_id, channel, start, length_s),
    CHECK (count >= 0 AND (count > 0) = (mean IS NOT NULL))
) PARTITION BY RANGE (start);

CREATE TABLE aggregate_hourly (
    farm_id            text NOT NULL,
    station_id         text NOT NULL,
    channel            text NOT NULL,
    start              timestamptz NOT NULL,      -- of the hour
    count              bigint NOT NULL,
    min                double precision,
    mean               double precision,
    max                double precision,
    stddev             double precision,
    rejected_range     bigint NOT NULL,
    rejected_rate      bigint NOT NULL,
    rejected_hampel    bigint NOT NULL,
    rejected_late      bigint NOT NULL,
    rejected_future    bigint NOT NULL,
    rejected_duplicate bigint NOT NULL,
    rejected           bigint NOT NULL GENERATED ALWAYS AS (rejected_range + rejected_rate + rejected_hampel
                           + rejected_late + rejected_future + rejected_duplicate) STORED,
    rejected_min       double precision,
    rejected_max       double precision,
    PRIMARY KEY (farm_id, station_id, channel, start)
);

CREATE TABLE aggregate_daily (
    LIKE aggregate_hourly INCLUDING ALL           -- start: of the day in UTC
);

-- The latest accepted value of each channel that was ever heard; null until one was accepted.
CREATE TABLE latest_value (
    farm_id    text NOT NULL,
    station_id text NOT NULL,
    channel    text NOT NULL,
    value      double precision,                  -- mean of the window
    time       timestamptz,                       -- end of the window
    PRIMARY KEY (farm_id, station_id, channel),
    FOREIGN KEY (farm_id, station_id) REFERENCES station (farm_id, station_id)
);

-- Makes the partitions that windows with these starts need. Called outside ingest's transaction, because making one
-- waits for whoever uses the table; two processes that need the same one take turns by the advisory lock.
CREATE FUNCTION make_aggregate_partitions(starts timestamptz[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    month     timestamp;                          -- in UTC
    name  text;                                  -- of the partition
BEGIN
    FOR month IN SELECT DISTINCT date_trunc('month', s AT TIME ZONE 'UTC') FROM unnest(starts) AS s ORDER BY 1 LOOP
        name := to_char(month, '"aggregate_y"YYYY"m"MM');
        IF to_regclass(name) IS NULL THEN
            PERFORM pg_advisory_xact_lock(hashtextextended('tilth:aggregate partitions', 0));
            -- Not to_regclass again: it may remember from before the wait.
            IF NOT EXISTS (SELECT FROM pg_inherits JOIN pg_class ON oid = inhrelid
                           WHERE inhparent = 'aggregate'::regclass AND relname = name) THEN
                EXECUTE format('CREATE TABLE %I PARTITION OF aggregate FOR VALUES FROM (%L) TO (%L)', name,
                    month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
            END IF;
        END IF;
    END LOOP;
END;
$$;
