import { expect, test } from 'vitest';
import { decisionText, decisionTone } from './decision-state';

test('an irrigation says how much and for how long, and whether it is only advice', () => {
  const run = { cause: 'due', mm: 47.5, minutes: 475, stations: ['n1'] } as const;
  expect(decisionText({ ...run, stations: ['n1'] })).toBe('Irrigate 47.5 mm in 475 min');
  expect(decisionText({ ...run, stations: [] })).toBe('Advice: irrigate 47.5 mm in 475 min');
});

test('what holds says why, and what somebody must look at stands out', () => {
  expect(decisionText({ cause: 'rain', mm: null, minutes: null, stations: [] })).toBe('Hold: rain');
  expect(decisionTone({ cause: 'unconfirmed' })).toBe('warning');
  expect(decisionTone({ cause: 'moist' })).toBe('none');
});
