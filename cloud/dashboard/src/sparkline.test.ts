import { expect, test } from 'vitest';
import { sparklinePath } from './sparkline';

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
