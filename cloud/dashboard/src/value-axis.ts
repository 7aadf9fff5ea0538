/** A chart's value axis: round ends, four lines. */

export interface ValueAxis {
  readonly min: number;
  readonly max: number;
  readonly lines: readonly number[];
}

/** Intervals between the lines; four lines are enough to read a value and few enough to stay quiet. */
const INTERVALS = 3;

const STEPS = [1, 2, 2.5, 3, 4, 5, 6, 8, 10];

export interface AxisWish {
  readonly leastSpan: number;
  readonly base?: number | undefined;
  readonly ceiling?: number | undefined;
}

/** The smallest round axis that holds `low` to `high`, the base and the least span. */
export function valueAxis(low: number, high: number, wish: AxisWish): ValueAxis {
  let min = wish.base === undefined ? low : Math.min(low, wish.base);
  let max = wish.base === undefined ? high : Math.max(high, wish.base);
  const missing = wish.leastSpan - (max - min);
  if (missing > 0) {
    if (wish.base === undefined) {
      min -= missing / 2;
      max += missing / 2;
    } else {
      max += missing;
    }
  }
  if (wish.ceiling !== undefined && max > wish.ceiling && high <= wish.ceiling) {
    min -= max - wish.ceiling;
    max = wish.ceiling;
  }
  for (let exponent = Math.floor(Math.log10((max - min) / INTERVALS)); ; exponent += 1) {
    for (const mantissa of STEPS) {
      const step = mantissa * 10 ** exponent;
      const start = startOf(min, max, step, wish.ceiling);
      if (start + INTERVALS * step >= max - step * 1e-9) {
        const lines = Array.from({ length: INTERVALS + 1 }, (_, i) => clean(start + i * step));
        return { min: lines[0] ?? min, max: lines[INTERVALS] ?? max, lines };
      }
    }
  }
}

/** Lines that reach the ceiling count down from it, others up from a multiple of the step. */
function startOf(min: number, max: number, step: number, ceiling: number | undefined): number {
  const fromBelow = Math.floor(min / step + 1e-9) * step;
  if (ceiling === undefined || max > ceiling || fromBelow + INTERVALS * step <= ceiling) return fromBelow;
  const fromAbove = ceiling - INTERVALS * step;
  return fromAbove <= min ? fromAbove : Number.NEGATIVE_INFINITY;
}

/** Takes away what binary fractions add: 0.30000000000000004. */
function clean(value: number): number {
  return Number(value.toPrecision(12));
}

/** Decimals that tell the lines apart. */
export function lineDecimals(axis: ValueAxis): number {
  const step = (axis.max - axis.min) / INTERVALS;
  for (let decimals = 0; decimals < 6; decimals += 1) {
    const scaled = step * 10 ** decimals;
    if (Math.abs(scaled - Math.round(scaled)) < 1e-6) return decimals;
  }
  return 6;
}
