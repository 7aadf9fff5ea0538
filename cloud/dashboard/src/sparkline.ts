/** A line as small as a word. */

/** Moisture that moves less than this is drawn flat, so that noise does not look like rain. */
const LEAST_SPAN = 0.03;

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
