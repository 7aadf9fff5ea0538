/** A small farm for unit tests: quiet until a test says otherwise. */

import type {
  Alert,
  Assignment,
  Candidate,
  ChannelSeries,
  FarmModels,
  Field,
  Gateway,
  LatestValue,
  ModelStatus,
  ModelVersion,
  Overview,
  Refusal,
  Station,
  StationSeries,
  UpdateStatus,
} from './client';

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
    reasons: means.map(() => null),
    rejected_min: means.map(() => null),
    rejected_max: means.map(() => null),
  };
}

export function stationSeries(series: ChannelSeries[], fromS: number, toS: number, resolution: StationSeries['resolution'] = 'raw'): StationSeries {
  return { resolution, from: iso(fromS * 1000), to: iso(toS * 1000), series };
}

export const MODEL = 'soil-anomaly';

export function modelVersion(version: string, changes: Partial<ModelVersion> = {}): ModelVersion {
  return {
    name: MODEL,
    version,
    task: 'anomaly',
    sha256: 'ab'.repeat(32),
    bytes: 165_982,
    parent: null,
    pushed_at: ago(60),
    pushed_by: 'farmer@example.org',
    trained_on: 'simulated farms',
    threshold: 1,
    steps: 96,
    window_s: 900,
    features: ['soil_moisture_20cm.mean'],
    scores: ['soil_moisture_20cm'],
    metrics: {},
    limits: { max_bytes: 1_048_576, max_latency_ms: 50, max_memory_bytes: 67_108_864 },
    active_on: [],
    assigned_to: [],
    ...changes,
  };
}

export function candidate(version: string, changes: Partial<Candidate> = {}): Candidate {
  return { version, digest: 'ab'.repeat(32), phase: 'fetching', since: ago(2), fetched: 0, size: 200_000, self_test: null, shadow: null, ...changes };
}

export function refusal(version: string | null, changes: Partial<Refusal> = {}): Refusal {
  return { version, digest: null, reason: 'golden', text: 'golden sample 3: expected 0.412, got 0.618', at: ago(30), ...changes };
}

/** A model on a gateway that runs 1.0.0 since an hour. */
export function status(changes: Partial<ModelStatus> = {}): ModelStatus {
  return {
    name: MODEL,
    active: { version: '1.0.0', digest: 'ab'.repeat(32), since: ago(60), why: 'came with the gateway' },
    previous: null,
    candidate: null,
    refusals: [],
    ...changes,
  };
}

export function update(changes: Partial<UpdateStatus> = {}): UpdateStatus {
  return { checked: ago(1), refusal: null, bytes: 200_000, models: [status()], nodes: null, ...changes };
}

export function assignment(version: string, serial: number, changes: Partial<Assignment> = {}): Assignment {
  return { gateway: 'home', model: MODEL, version, serial, shadow_s: 86_400, min_agreement: 0.9, at: ago(40), by: 'farmer@example.org', before: null, ...changes };
}

/** A farm with one gateway. */
export function farmModels(model: ModelStatus, assignments: Assignment[]): FarmModels {
  return { assignments, gateways: [{ id: 'home', name: 'home', update: update({ models: [model] }) }] };
}
