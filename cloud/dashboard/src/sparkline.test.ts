import { expect, test } from 'vitest';
import { fromFirstValue, lengthText, sparklinePath } from './sparkline';

test('goes from edge to edge and is broken where nothing is known', () => {
  const { path, end } = sparklinePath([0.1, 0.2, null, 0.3], 100, 20);
  expect(path).toMatch(/^M3 [\d.]+L[\d.]+ [\d.]+M97 3$/);
  expect(end).toEqual({ x: 97, y: 3 });
});

test('noise is drawn flat', () => {
  const ys = [...sparklinePath([0.2, 0.201, 0.2], 100, 20).path.matchAll(/ ([\d.]+)/g)].map((m) => Number(m[1]));
  expect(Math.max(...ys) - Math.min(...ys)).toBeLessThan(1);
});

test('nothing is nothing', () => {
  expect(sparklinePath([null, null], 100, 20)).toEqual({ path: '', end: null });
});

test('lines begin where the first station has a value', () => {
  const hours = (...values: (number | null)[]): (number | null)[] => [...Array<null>(10).fill(null), ...values];
  const young = {
    from: '2015-07-14T00:00:00.000Z',
    to: '2015-07-14T18:00:00.000Z',
    step_s: 3600,
    stations: { c1: hours(null, 1, 2, 3, 4, 5, 6, 7), c2: hours(1, 2, 3, 4, 5, 6, 7, 8) },
  };
  const fitted = fromFirstValue(young);
  expect(fitted.stations.c1).toEqual([null, 1, 2, 3, 4, 5, 6, 7]);
  expect(fitted.from).toBe('2015-07-14T10:00:00.000Z');
  expect(lengthText(fitted)).toBe('8 h');
  expect(fromFirstValue({ ...young, stations: { c1: hours(null, null, null, null, null, null, null, 7) } }).stations.c1).toHaveLength(6);
});
