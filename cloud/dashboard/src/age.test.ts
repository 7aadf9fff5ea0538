import { expect, test } from 'vitest';
import { ageText, agoText, durationText } from './age';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

test.each([
  [40_000, '40 s'],
  [12 * MINUTE + 59_000, '12 min'],
  [5 * HOUR + 41 * MINUTE, '5 h 41 min'],
  [6 * HOUR, '6 h'],
  [76 * HOUR, '3 d 4 h'],
  [48 * HOUR, '2 d'],
  [-5, '0 s'],
])('%d ms are %s', (ms, text) => {
  expect(durationText(ms)).toBe(text);
});

test('below a minute is now, and so is what a clock ahead of ours has sent', () => {
  expect(ageText(59_999)).toBe('now');
  expect(agoText(-3 * HOUR)).toBe('just now');
  expect(agoText(2 * MINUTE)).toBe('2 min ago');
});
