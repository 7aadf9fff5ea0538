-- Readings that are in no window for their time, as a gateway counts them: what it last said of each station. There is no foreign
-- key to station: a gateway may tell of one that the cloud has not heard of otherwise.
CREATE TABLE untimely (
    farm_id    text NOT NULL,
    gateway_id text NOT NULL,
    station_id text NOT NULL,
    late       bigint NOT NULL,                                -- later than is allowed
    future     bigint NOT NULL,                                -- later than the gateway's clock
    clock      bigint NOT NULL,                                -- of a time that cannot be
    PRIMARY KEY (farm_id, station_id, gateway_id),
    FOREIGN KEY (farm_id, gateway_id) REFERENCES gateway (farm_id, gateway_id)
);
