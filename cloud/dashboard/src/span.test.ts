import { describe, expect, test } from 'vitest';
import { fitted, neighbour, periodOf } from './span';

const DAY = 86_400_000;
const NOW = 1_000 * DAY;

describe('a period', () => {
  test('ends now unless a moment is to be looked at', () => {
    expect(periodOf('week', null, NOW)).toEqual({ from: NOW - 7 * DAY, to: NOW, live: true });
  });

  test('has the moment inside, with more before it than after', () => {
    const { from, to, live } = periodOf('week', NOW - 30 * DAY, NOW);
    expect(to - from).toBe(7 * DAY);
    expect(NOW - 30 * DAY - from).toBeGreaterThan(to - (NOW - 30 * DAY));
    expect(live).toBe(false);
  });

  test('never reaches beyond now, and is live again when it would', () => {
    expect(periodOf('day', NOW - 3_600_000, NOW)).toEqual({ from: NOW - DAY, to: NOW, live: true });
  });
});

test('going back and forth leads to the same time, and forth at last to now', () => {
  const week = periodOf('week', null, NOW);
  const before = periodOf('week', neighbour(week, -1, NOW), NOW);
  expect(before.to).toBeCloseTo(week.from, -1);
  expect(neighbour(before, 1, NOW)).toBeNull();
});

test('a station that is younger than the span is shown from its first point on, and six hours at least', () => {
  const week = periodOf('week', null, NOW);
  expect(fitted(week, NOW - 2 * DAY).from).toBe(NOW - 2 * DAY);
  expect(fitted(week, NOW - 60_000).from).toBe(NOW - DAY / 4);
  expect(fitted(week, NOW - 9 * DAY)).toEqual(week);
  expect(fitted(week, null)).toEqual(week);
});
