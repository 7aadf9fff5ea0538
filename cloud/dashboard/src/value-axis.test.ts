import { describe, expect, test } from 'vitest';
import { lineDecimals, valueAxis } from './value-axis';

describe('a value axis', () => {
  test.each([
    [0.197, 0.268, { leastSpan: 0.06 }],
    [-3.2, 41, { leastSpan: 6 }],
    [0, 940, { leastSpan: 300, base: 0 }],
    [12, 99.6, { leastSpan: 30, ceiling: 100 }],
    [3.912, 3.913, { leastSpan: 0.6 }],
    [-104, -78, { leastSpan: 15 }],
  ])('of %d to %d has four round lines that hold it', (low, high, wish) => {
    const axis = valueAxis(low, high, wish);
    expect(axis.lines).toHaveLength(4);
    expect(axis.min).toBeLessThanOrEqual(low);
    expect(axis.max).toBeGreaterThanOrEqual(high);
    expect(axis.max - axis.min).toBeGreaterThanOrEqual(wish.leastSpan - 1e-9);
    expect(lineDecimals(axis)).toBeLessThanOrEqual(3);
  });

  test('begins at its base', () => {
    expect(valueAxis(0, 11, { leastSpan: 3, base: 0 }).lines).toEqual([0, 4, 8, 12]);
    expect(valueAxis(0, 0, { leastSpan: 3, base: 0 }).lines).toEqual([0, 1, 2, 3]);
  });

  test('ends at its ceiling', () => {
    expect(valueAxis(20, 100, { leastSpan: 30, ceiling: 100 }).max).toBe(100);
    expect(valueAxis(90, 100, { leastSpan: 30, ceiling: 100 }).lines).toEqual([70, 80, 90, 100]);
  });

  test('has as many decimals as tell its lines apart', () => {
    expect(lineDecimals({ min: 0.14, max: 0.32, lines: [] })).toBe(2);
    expect(lineDecimals({ min: 0, max: 7.5, lines: [] })).toBe(1);
    expect(lineDecimals({ min: 0, max: 1200, lines: [] })).toBe(0);
  });
});
