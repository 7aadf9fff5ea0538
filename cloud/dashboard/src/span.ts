/** How much time a station's charts show, and in which resolution. */

import type { Resolution } from './client';

const DAY_MS = 86_400_000;

export interface Span {
  readonly label: string;
  readonly lengthMs: number;
  readonly resolution: Resolution;
  /** What one point is, in words. */
  readonly point: string;
}

/** Resolutions such that a chart has some hundred points, as many as a screen can show. */
export const SPANS = {
  day: { label: 'Day', lengthMs: DAY_MS, resolution: 'raw', point: 'mean of 15 min' },
  week: { label: 'Week', lengthMs: 7 * DAY_MS, resolution: 'raw', point: 'mean of 15 min' },
  month: { label: 'Month', lengthMs: 30 * DAY_MS, resolution: 'hour', point: 'mean of an hour' },
  season: { label: 'Season', lengthMs: 120 * DAY_MS, resolution: 'day', point: 'mean of a day' },
} as const satisfies Record<string, Span>;

export type SpanName = keyof typeof SPANS;

export interface Period {
  readonly from: number;
  readonly to: number;
  /** Whether it ends now and moves on with the farm's clock. */
  readonly live: boolean;
}

/** Where a moment stands in the period that shows it, as a share from the left: what came before it says more than what came after. */
const MOMENT_AT = 0.7;

/** What a chart shows at least. */
const LEAST_MS = 6 * 3_600_000;

/** A period without the time before there was anything, as of a station that is younger than the span. `first` is the first point, ms. */
export function fitted(period: Period, first: number | null): Period {
  const from = first === null ? period.from : Math.max(period.from, Math.min(first, period.to - LEAST_MS));
  return { ...period, from };
}

/** The period of a span around `at`, or up to now; never beyond now. */
export function periodOf(span: SpanName, at: number | null, now: number): Period {
  const { lengthMs } = SPANS[span];
  const to = at === null ? now : Math.min(now, at + (1 - MOMENT_AT) * lengthMs);
  return { from: to - lengthMs, to, live: to === now };
}

/** The moment to look at so that the period before or after this one is shown; null for up to now. */
export function neighbour(period: Period, direction: -1 | 1, now: number): number | null {
  const length = period.to - period.from;
  const to = period.to + direction * length;
  return to >= now ? null : to - (1 - MOMENT_AT) * length;
}
