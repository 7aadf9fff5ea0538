/** A line as small as a word. */

import { durationText } from './age';
import type { Sparklines } from './client';

/** Moisture that moves less than this is drawn flat, so that noise does not look like rain. */
const LEAST_SPAN = 0.03;

/** Steps that a line has at least. */
const LEAST_STEPS = 6;

/** Sparklines without the time before any station had a value, as of a farm that is younger than they are long. */
export function fromFirstValue(sparklines: Sparklines): Sparklines {
  const lines = Object.values(sparklines.stations);
  const length = Math.max(0, ...lines.map((line) => line.length));
  const firsts = lines.map((line) => line.findIndex((v) => v !== null)).filter((i) => i >= 0);
  const skipped = Math.max(0, Math.min(length - LEAST_STEPS, ...firsts));
  return {
    ...sparklines,
    from: new Date(Date.parse(sparklines.from) + skipped * sparklines.step_s * 1000).toISOString(),
    stations: Object.fromEntries(Object.entries(sparklines.stations).map(([id, line]) => [id, line.slice(skipped)])),
  };
}

/** How much time sparklines show: "7 d". */
export function lengthText({ from, to }: Pick<Sparklines, 'from' | 'to'>): string {
  return durationText(Date.parse(to) - Date.parse(from));
}

export interface SparklinePath {
  readonly path: string;
  readonly end: { readonly x: number; readonly y: number } | null;
}

/** An SVG path of the values, the oldest at the left edge, the last at the right; broken where there is none. */
export function sparklinePath(values: readonly (number | null)[], width: number, height: number): SparklinePath {
  const known = values.filter((v) => v !== null);
  if (known.length === 0) return { path: '', end: null };
  const margin = 3;
  const low = Math.min(...known);
  const high = Math.max(...known);
  const span = Math.max(high - low, LEAST_SPAN);
  const bottom = (low + high - span) / 2;
  const x = (i: number): number => round(margin + (i / Math.max(1, values.length - 1)) * (width - 2 * margin));
  const y = (value: number): number => round(height - margin - ((value - bottom) / span) * (height - 2 * margin));

  let path = '';
  let end: SparklinePath['end'] = null;
  values.forEach((value, i) => {
    if (value === null) return;
    const before = values[i - 1];
    end = { x: x(i), y: y(value) };
    path += `${before === null || before === undefined ? 'M' : 'L'}${end.x} ${end.y}`;
  });
  return { path, end };
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
