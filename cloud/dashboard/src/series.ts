/** A station's series, as the API gives it, kept up to date and made ready for charts. */

import type { ChannelSeries, StationSeries } from './client';

const RESOLUTION_S = { raw: 900, hour: 3600, day: 86_400 } as const;

/** Seconds from one point to the next. Of the windows as the gateway made them, what the points themselves say. */
export function stepOf(series: Pick<StationSeries, 'resolution' | 'series'>): number {
  if (series.resolution !== 'raw') return RESOLUTION_S[series.resolution];
  let least = Number.POSITIVE_INFINITY;
  for (const { time } of series.series) {
    for (let i = 1; i < time.length; i += 1) least = Math.min(least, (time[i] as number) - (time[i - 1] as number));
  }
  return Number.isFinite(least) && least > 0 ? least : RESOLUTION_S.raw;
}

/** When the first point of any channel starts, ms; null when there is none. */
export function firstPoint({ series }: Pick<StationSeries, 'series'>): number | null {
  const starts = series.flatMap((s) => s.time[0] ?? []);
  return starts.length === 0 ? null : Math.min(...starts) * 1000;
}

/** The columns of a channel that have a value or null at each time. */
const COLUMNS = ['mean', 'min', 'max', 'count', 'rejected', 'reasons', 'rejected_min', 'rejected_max'] as const;

/**
 * What is known, with what came since: points from the tail's start on are the tail's, those before `fromMs` are left out.
 * Late readings amend windows, so the tail reaches back over what is known.
 */
export function withTail(known: StationSeries, tail: StationSeries, fromMs: number): StationSeries {
  const tailStart = Date.parse(tail.from) / 1000;
  const channels = new Map(known.series.map((s) => [s.channel, s]));
  for (const fresh of tail.series) {
    const old = channels.get(fresh.channel);
    channels.set(fresh.channel, old === undefined ? fresh : joined(slice(old, fromMs / 1000, tailStart), fresh));
  }
  const series = [...channels.values()].map((s) => slice(s, fromMs / 1000, Number.POSITIVE_INFINITY));
  return { ...known, from: new Date(fromMs).toISOString(), to: tail.to, series };
}

function slice(series: ChannelSeries, fromS: number, toS: number): ChannelSeries {
  const first = series.time.findIndex((t) => t >= fromS);
  const start = first === -1 ? series.time.length : first;
  const past = series.time.findIndex((t) => t >= toS);
  const end = past === -1 ? series.time.length : past;
  const cut = { ...series, time: series.time.slice(start, end) };
  for (const column of COLUMNS) Object.assign(cut, { [column]: series[column].slice(start, end) });
  return cut;
}

function joined(before: ChannelSeries, after: ChannelSeries): ChannelSeries {
  const both = { ...after, time: [...before.time, ...after.time] };
  for (const column of COLUMNS) Object.assign(both, { [column]: [...before[column], ...after[column]] });
  return both;
}

/** Several channels over one list of times, seconds. Where a channel has nothing it is null, and so the line is broken. */
export interface Aligned {
  readonly times: readonly number[];
  readonly channels: readonly AlignedChannel[];
}

export interface AlignedChannel {
  readonly channel: string;
  readonly levelCm: number | null;
  readonly mean: readonly (number | null)[];
  readonly min: readonly (number | null)[];
  readonly max: readonly (number | null)[];
}

/** Puts channels over one list of times. Where all are silent for longer than a step, a row without values breaks the lines. */
export function align(series: readonly ChannelSeries[], stepS: number): Aligned {
  const all = [...new Set(series.flatMap((s) => s.time))].sort((a, b) => a - b);
  const times: number[] = [];
  for (const time of all) {
    const before = times.at(-1);
    if (before !== undefined && time - before > 1.5 * stepS) times.push(before + stepS);
    times.push(time);
  }
  const row = new Map(times.map((time, i) => [time, i]));
  const channels = series.map((s) => {
    const column = (values: readonly (number | null)[]): (number | null)[] => {
      const aligned = new Array<number | null>(times.length).fill(null);
      s.time.forEach((time, i) => {
        aligned[row.get(time) as number] = values[i] ?? null;
      });
      return aligned;
    };
    return { channel: s.channel, levelCm: s.level_cm, mean: column(s.mean), min: column(s.min), max: column(s.max) };
  });
  return { times, channels };
}

const DAY_S = 86_400;

/**
 * How much a channel has changed from the first day of a series to its last, and in how many days: means of whole days,
 * so that the time of day does not matter. Nothing when the series is shorter than two days.
 */
export function trend({ time, mean }: Pick<ChannelSeries, 'time' | 'mean'>): { readonly change: number; readonly days: number } | null {
  const [start, end] = [time[0], time.at(-1)];
  if (start === undefined || end === undefined || end - start < 2 * DAY_S) return null;
  const meanOf = (fromS: number, toS: number): number | null => {
    const values = mean.filter((v, i) => v !== null && (time[i] as number) >= fromS && (time[i] as number) <= toS) as number[];
    return values.length === 0 ? null : values.reduce((a, b) => a + b, 0) / values.length;
  };
  const [first, last] = [meanOf(start, start + DAY_S), meanOf(end - DAY_S, end)];
  return first === null || last === null ? null : { change: last - first, days: Math.round((end - start) / DAY_S) };
}

/** A rejected reading: its window's start, seconds, and the value that was not believed. */
export interface Rejection {
  readonly time: number;
  readonly value: number;
}

/** The least and the greatest rejected reading of each window, which is as much as an aggregate keeps of them. */
export function rejections(series: readonly ChannelSeries[]): Rejection[] {
  return series.flatMap((s) =>
    s.time.flatMap((time, i) => {
      const values = new Set([s.rejected_min[i], s.rejected_max[i]].filter((v) => v !== null && v !== undefined));
      return [...values].map((value) => ({ time, value }));
    }),
  );
}

/** How much fell in each bucket, mm: a rain reading is the rain since the one before, so a window's rain is its mean times its count. */
export function totals(series: ChannelSeries, bucketS: number): { times: number[]; totals: number[] } {
  const buckets = new Map<number, number>();
  series.time.forEach((time, i) => {
    const mean = series.mean[i];
    if (mean === null || mean === undefined) return;
    const bucket = Math.floor(time / bucketS) * bucketS;
    buckets.set(bucket, (buckets.get(bucket) ?? 0) + mean * (series.count[i] ?? 0));
  });
  const sorted = [...buckets].sort(([a], [b]) => a - b);
  return { times: sorted.map(([time]) => time), totals: sorted.map(([, total]) => total) };
}
