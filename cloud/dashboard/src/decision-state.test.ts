import { expect, test } from 'vitest';
import { decisionText, decisionTone } from './decision-state';

test('an irrigation says how much and for how long, whether it is only advice, and whether it was carried out', () => {
  const text = (stations: string[], confirmed: string[]): string =>
    decisionText({ cause: 'due', mm: 47.5, minutes: 475, stations, confirmed });
  expect(text([], [])).toBe('Advice: irrigate 47.5 mm in 475 min');
  expect(text(['n1'], [])).toBe('Irrigate 47.5 mm in 475 min: commanded');
  expect(text(['n1'], ['n1'])).toBe('Irrigate 47.5 mm in 475 min: carried out');
  expect(text(['n1', 'n2'], ['n2'])).toBe('Irrigate 47.5 mm in 475 min: carried out by 1 of 2 valves');
});

test('what holds says why, and what somebody must look at stands out', () => {
  expect(decisionText({ cause: 'rain', mm: null, minutes: null, stations: [], confirmed: [] })).toBe('Hold: rain');
  expect(decisionTone({ cause: 'unconfirmed' })).toBe('warning');
  expect(decisionTone({ cause: 'moist' })).toBe('none');
});
