/** A small farm for unit tests: quiet until a test says otherwise. */

import type { Alert, ChannelSeries, Field, Gateway, LatestValue, Overview, Station, StationSeries } from './client';

export const NOW = Date.parse('2015-07-14T13:04:00Z');

const MINUTE = 60_000;

export const iso = (ms: number): string => new Date(ms).toISOString();

/** A moment some minutes ago. */
export const ago = (minutes: number): string => iso(NOW - minutes * MINUTE);

export function latest(channel: string, value: number, time = ago(10)): LatestValue {
  const match = /^(.+)_(\d+)cm$/.exec(channel);
  return {
    channel,
    quantity: (match?.[1] ?? channel) as LatestValue['quantity'],
    unit: '',
    level_cm: match?.[2] === undefined ? null : Number(match[2]),
    value,
    time,
  };
}

export function station(id: string, moisture: number, changes: Partial<Station> = {}): Station {
  return {
    id,
    field: 'creek',
    latitude: 39.4581,
    longitude: -118.7702,
    interval_s: 300,
    report_s: 900,
    firmware: 'tilth-node 0.1.0',
    last_heard: ago(10),
    latest: [latest('soil_moisture_10cm', moisture - 0.02), latest('soil_moisture_20cm', moisture), latest('battery', 3.9), latest('rssi', -80)],
    ...changes,
  };
}

export const CREEK: Field = {
  id: 'creek',
  name: 'Creek',
  crop: 'alfalfa',
  soil: 'clay_loam',
  field_capacity: 0.33,
  wilting_point: 0.14,
  refill_point: 0.2,
  stations: 3,
};

export function alert(kind: Alert['kind'], changes: Partial<Alert> = {}): Alert {
  return {
    id: `${kind} ${changes.station ?? 'c3'} ${changes.opened ?? ''}`,
    station: 'c3',
    field: 'creek',
    channel: kind === 'silent' ? null : 'soil_moisture_20cm',
    kind,
    opened: ago(340),
    updated: ago(15),
    closed: null,
    score: 5.7,
    threshold: 4,
    value: 0.241,
    drivers: [],
    model: null,
    message: 'Soil moisture 20 cm stuck at 0.241 m³/m³ for 5 h 40 min',
    ...changes,
  };
}

export function gateway(changes: Partial<Gateway> = {}): Gateway {
  return { id: 'home', name: 'home', last_seen: ago(1), status: null, ...changes };
}

export function overview(changes: Partial<Overview> = {}): Overview {
  return {
    farm: { id: 'fallon', name: 'Fallon farm', timezone: 'America/Los_Angeles', latitude: 39.46, longitude: -118.77 },
    now: iso(NOW),
    speed: 1,
    data_until: ago(4),
    fields: [CREEK],
    stations: [station('c1', 0.26), station('c2', 0.27), station('c3', 0.241)],
    alerts: [],
    gateways: [gateway()],
    ...changes,
  };
}

/** A channel with these means, a quarter of an hour apart from `startS`; three readings in each window. */
export function channelSeries(channel: string, startS: number, means: readonly (number | null)[], stepS = 900): ChannelSeries {
  const { quantity, level_cm } = latest(channel, 0);
  return {
    channel,
    quantity,
    unit: 'm3/m3',
    level_cm,
    time: means.map((_, i) => startS + i * stepS),
    mean: [...means],
    min: means.map((m) => (m === null ? null : m - 0.01)),
    max: means.map((m) => (m === null ? null : m + 0.01)),
    count: means.map((m) => (m === null ? 0 : 3)),
    rejected: means.map(() => 0),
    rejected_min: means.map(() => null),
    rejected_max: means.map(() => null),
  };
}

export function stationSeries(series: ChannelSeries[], fromS: number, toS: number, resolution: StationSeries['resolution'] = 'raw'): StationSeries {
  return { resolution, from: iso(fromS * 1000), to: iso(toS * 1000), series };
}
