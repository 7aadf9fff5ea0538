import { expect, test } from 'vitest';
import { NOW } from './fixtures';
import { readableTimes } from './readable-times';

test('times in a sentence are those of the farm', () => {
  expect(readableTimes('runs beside 1.0.0 until 2015-07-15T20:21:34.56Z', NOW, 'America/Los_Angeles')).toBe('runs beside 1.0.0 until 15 Jul, 13:21');
  expect(readableTimes('expired at 2015-07-14T12:00:00Z, 1 h ago', NOW, 'UTC')).toBe('expired at 12:00, 1 h ago');
  expect(readableTimes('expired at 2015-99-99T12:00:00Z', NOW, 'UTC')).toBe('expired at 2015-99-99T12:00:00Z');
});
