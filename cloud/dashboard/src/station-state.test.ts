import { expect, test } from 'vitest';
import { ago, alert, CREEK, NOW, station } from './fixtures';
import { isLate, staleAfter, stationState } from './station-state';

const stateOf = (...[s, alerts = []]: [ReturnType<typeof station>, ReturnType<typeof alert>[]?]): string =>
  stationState(s, CREEK, alerts, NOW, 1).word;

test('a station that is heard and moist is ok', () => {
  expect(stateOf(station('c3', 0.26))).toBe('ok');
});

test('a fault is told before dry soil, and silence before a fault', () => {
  const dry = station('c3', 0.19);
  expect(stateOf(dry)).toBe('below refill');
  expect(stateOf(dry, [alert('stuck')])).toBe('stuck');
  expect(stateOf(dry, [alert('stuck'), alert('silent')])).toBe('silent');
  expect(stateOf(dry, [alert('stuck', { station: 'c4' })])).toBe('below refill');
});

test('a station that has missed its reports is late, and that is told before what a model finds unusual', () => {
  const late = station('c3', 0.26, { last_heard: ago(120) });
  expect(stateOf(late)).toBe('late');
  expect(stateOf(late, [alert('anomaly')])).toBe('late');
  expect(stateOf(station('c3', 0.26), [alert('anomaly')])).toBe('unusual');
});

test('a station that was never heard is not late', () => {
  expect(stateOf(station('c3', 0.26, { last_heard: null }))).toBe('not heard yet');
});

test('a simulated farm’s delivery takes farm time', () => {
  const heard = { report_s: 900, last_heard: ago(120) };
  expect(isLate(heard, NOW, 1)).toBe(true);
  expect(isLate(heard, NOW, 720)).toBe(false);
  expect(staleAfter({ report_s: 3600 }, 1)).toBeGreaterThan(3 * 3_600_000);
});
