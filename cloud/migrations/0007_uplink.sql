-- Each store of a gateway counts its lanes from 1: what another store sent says nothing of it. The rows of before are those
-- of gateways that name no store, 0.

ALTER TABLE uplink_progress ADD COLUMN store_id bigint NOT NULL DEFAULT 0;
ALTER TABLE uplink_progress DROP CONSTRAINT uplink_progress_pkey;
ALTER TABLE uplink_progress ADD PRIMARY KEY (farm_id, gateway_id, store_id, lane);

-- Raw readings of gateways that send them, as they were stored there, before any filter; partitioned by month. A channel may
-- have two values at a time: both were said. There is no foreign key to station, as in aggregate.
CREATE TABLE reading (
    farm_id    text NOT NULL,
    station_id text NOT NULL,
    channel    text NOT NULL,
    time       timestamptz NOT NULL,
    value      double precision NOT NULL,
    PRIMARY KEY (farm_id, station_id, channel, time, value)
) PARTITION BY RANGE (time);

-- As make_aggregate_partitions.
CREATE FUNCTION make_reading_partitions(times timestamptz[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    month timestamp;                              -- in UTC
    name  text;                                   -- of the partition
BEGIN
    FOR month IN SELECT DISTINCT date_trunc('month', t AT TIME ZONE 'UTC') FROM unnest(times) AS t ORDER BY 1 LOOP
        name := to_char(month, '"reading_y"YYYY"m"MM');
        IF to_regclass(name) IS NULL THEN
            PERFORM pg_advisory_xact_lock(hashtextextended('tilth:reading partitions', 0));
            IF NOT EXISTS (SELECT FROM pg_inherits JOIN pg_class ON oid = inhrelid
                           WHERE inhparent = 'reading'::regclass AND relname = name) THEN
                EXECUTE format('CREATE TABLE %I PARTITION OF reading FOR VALUES FROM (%L) TO (%L)', name,
                    month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
            END IF;
        END IF;
    END LOOP;
END;
$$;
