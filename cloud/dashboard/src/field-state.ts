/** How a field stands: its soil moisture between refill point and field capacity. */

import { rootZoneChannel, shallowest } from './channel';
import type { Field, LatestValue, Sparklines, Station } from './client';
import type { Tone } from './tone';

/** A field is near refill when less than this share of the water between field capacity and refill point is left. */
const NEAR_REFILL_SHARE = 0.15;

export type Wetness = 'below refill' | 'near refill' | 'in range' | 'above field capacity';

/** Where a moisture stands in a field's soil. */
export function wetness(moisture: number, field: Field): Wetness {
  if (moisture < field.refill_point) return 'below refill';
  if (moisture < field.refill_point + NEAR_REFILL_SHARE * (field.field_capacity - field.refill_point)) return 'near refill';
  return moisture > field.field_capacity ? 'above field capacity' : 'in range';
}

export function wetnessTone(state: Wetness): Tone {
  return state === 'below refill' || state === 'near refill' ? 'warning' : 'ok';
}

/** What a card says of a field. */
export interface FieldReading {
  /** The channel that stands for the root zone. */
  readonly channel: string | null;
  /** Median over the stations that are heard: one faulty sensor does not move it. */
  readonly moisture: number | null;
  readonly soilTemperature: number | null;
  readonly airTemperature: number | null;
  /** Time of the newest moisture, ms. */
  readonly time: number | null;
  /** How many stations the moisture is of. */
  readonly of: number;
}

/** The field's values from its stations; `heard` says which of them are up to date. When none is, all are taken. */
export function fieldReading(stations: readonly Station[], heard: (station: Station) => boolean): FieldReading {
  const fresh = stations.filter(heard);
  const taken = fresh.length > 0 ? fresh : stations;
  const channels = new Set(taken.flatMap((s) => s.latest.map((l) => l.channel)));
  const values = (channel: string | null): LatestValue[] =>
    channel === null ? [] : taken.flatMap((s) => s.latest.filter((l) => l.channel === channel));
  const middle = (channel: string | null): number | null => median(values(channel).map((l) => l.value));

  const channel = rootZoneChannel(channels);
  const moistures = values(channel);
  return {
    channel,
    moisture: median(moistures.map((l) => l.value)),
    soilTemperature: middle(shallowest(channels, 'soil_temperature')),
    airTemperature: middle(shallowest(channels, 'air_temperature')),
    time: moistures.length === 0 ? null : Math.max(...moistures.map((l) => Date.parse(l.time))),
    of: moistures.length,
  };
}

/** A field's line: at each step the median of its stations. */
export function fieldSparkline(sparklines: Sparklines | null, stations: readonly Station[]): (number | null)[] {
  const lines = stations.map((s) => sparklines?.stations[s.id] ?? []);
  const length = Math.max(0, ...lines.map((l) => l.length));
  return Array.from({ length }, (_, i) => median(lines.flatMap((l) => l[i] ?? [])));
}

/**
 * Rain of a station over a sparkline's time, mm. A sparkline has the mean reading of each hour, and a rain reading is
 * the rain since the one before, so an hour's rain is its mean times the readings of an hour.
 */
export function rainTotal(hourlyMeans: readonly (number | null)[], stepS: number, intervalS: number): number | null {
  const known = hourlyMeans.filter((v) => v !== null);
  if (known.length === 0 || intervalS <= 0) return null;
  return known.reduce((sum, mean) => sum + mean * (stepS / intervalS), 0);
}

/** The middle value; of an even number, the mean of the middle two. */
export function median(values: readonly number[]): number | null {
  const sorted = values.toSorted((a, b) => a - b);
  const upper = sorted[Math.floor(sorted.length / 2)];
  const lower = sorted[Math.ceil(sorted.length / 2) - 1];
  return upper === undefined || lower === undefined ? null : (lower + upper) / 2;
}

/** Where the gauge's marks stand, as shares of its length. It reaches from the wilting point to a little above field capacity. */
export interface Gauge {
  readonly refill: number;
  readonly fieldCapacity: number;
  /** Kept inside the gauge. */
  readonly value: number | null;
}

export function gauge(field: Field, moisture: number | null): Gauge {
  const start = field.wilting_point;
  const end = field.field_capacity + 0.3 * (field.field_capacity - field.wilting_point);
  const share = (value: number): number => Math.min(1, Math.max(0, (value - start) / (end - start)));
  return { refill: share(field.refill_point), fieldCapacity: share(field.field_capacity), value: moisture === null ? null : share(moisture) };
}
