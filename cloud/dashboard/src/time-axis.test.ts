import { expect, test } from 'vitest';
import { momentOf } from './farm-time';
import { timeAxis } from './time-axis';

const ZONE = 'America/Los_Angeles';
const HOUR = 3_600_000;
const to = Date.parse('2015-07-14T13:04:00Z');

test('a week has its days in their middle and ticks where they begin', () => {
  const axis = timeAxis(to - 7 * 24 * HOUR, to, ZONE, 12);
  expect(axis.labels.map((l) => l.text)).toEqual(['Tue 7', 'Wed 8', 'Thu 9', 'Fri 10', 'Sat 11', 'Sun 12', 'Mon 13']);
  expect(axis.labels[1]?.ms).toBe(momentOf(2015, 7, 8, 12, ZONE));
  expect(axis.ticks[0]).toBe(momentOf(2015, 7, 8, 0, ZONE));
});

test('a day has hours, and its midnight says the day', () => {
  const texts = timeAxis(to - 24 * HOUR, to, ZONE, 12).labels.map((l) => l.text);
  expect(texts).toContain('Tue 14');
  expect(texts).toContain('22:00');
  expect(texts.length).toBeLessThanOrEqual(13);
});

test('a season fits into the room of a phone', () => {
  expect(timeAxis(to - 120 * 24 * HOUR, to, ZONE, 4).labels.length).toBeLessThanOrEqual(5);
});

test('the day on which the clocks change has its ticks at midnight', () => {
  const from = momentOf(2015, 3, 6, 0, ZONE);
  const { ticks } = timeAxis(from, from + 5 * 24 * HOUR, ZONE, 12);
  expect(ticks).toContain(momentOf(2015, 3, 9, 0, ZONE));
});
