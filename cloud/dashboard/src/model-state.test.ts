import { describe, expect, test } from 'vitest';
import type { Candidate, Reason, ShadowReport } from './client';
import { ago, assignment, candidate, farmModels, iso, MODEL, modelVersion, NOW, refusal, status } from './fixtures';
import {
  agreementText,
  assignmentOf,
  comparisonText,
  eventSentence,
  eventTone,
  formatAgreement,
  latencyText,
  phaseShare,
  phaseText,
  placesOf,
  placeTexts,
  reasonText,
  registryText,
  standingRefusal,
} from './model-state';

const HOUR = 3_600_000;
const SELF_TEST = { latency_us: 412, batch_latency_us: 61, memory_bytes: 12_400_000, cpu_ms: 240, wall_ms: 300 };
const SHADOW: ShadowReport = { windows: 4608, until: iso(NOW + 6 * HOUR), agreement: 0.9923, mean_difference: 0.043, alerts: 14, active_alerts: 11 };

describe('a candidate’s phase', () => {
  const text = (changes: Partial<Candidate>): string => phaseText(candidate('1.1.0', changes), NOW, 'America/Los_Angeles');

  test('is told with what is known of it', () => {
    expect(text({ fetched: 71_000 })).toBe('71.0 kB of 200 kB, 35 %');
    expect(text({ size: 0 })).toBe('its size is not known yet');
    expect(text({ phase: 'verified' })).toBe('200 kB, as the registry signed it; its self-test comes next');
    expect(text({ phase: 'self_tested', self_test: SELF_TEST })).toBe('0.4 ms a sample, 12.4 MB of memory');
    expect(text({ phase: 'shadow', shadow: SHADOW })).toBe('until 12:04, 6 h left');
    expect(text({ phase: 'shadow', shadow: { ...SHADOW, until: ago(1) } })).toBe('its time is over; it is being judged');
    expect(text({ phase: 'shadow' })).toBe('beside the active version');
  });

  test('is filled by bytes while fetching and by time in shadow', () => {
    expect(phaseShare(candidate('1.1.0', { fetched: 50_000 }), NOW)).toBe(0.25);
    expect(phaseShare(candidate('1.1.0', { size: 0 }), NOW)).toBe(0);
    expect(phaseShare(candidate('1.1.0', { phase: 'verified' }), NOW)).toBe(1);
    const shadow = candidate('1.1.0', { phase: 'shadow', since: iso(NOW - 18 * HOUR), shadow: SHADOW });
    expect(phaseShare(shadow, NOW)).toBe(0.75);
    expect(phaseShare(shadow, NOW + 24 * HOUR)).toBe(1);
    expect(phaseShare(candidate('1.1.0', { phase: 'shadow' }), NOW)).toBe(0);
  });
});

test('only full agreement is 100 %', () => {
  expect([1, 0.99999, 0.9923, 0.5, 0].map(formatAgreement)).toEqual(['100 %', '99.9 %', '99.2 %', '50.0 %', '0.0 %']);
});

test('agreement is told once there is a window', () => {
  expect(agreementText(SHADOW)).toBe('Agrees on 99.2 % of 4,608 windows');
  expect(agreementText({ windows: 1, agreement: 1 })).toBe('Agrees on 100 % of 1 window');
  expect(agreementText({ windows: 0, agreement: 1 })).toBeNull();
});

test('a shadow is compared by how often it would have raised something', () => {
  expect(comparisonText(SHADOW)).toBe('it was over its threshold 14 times, the active one 11 times; scores are 0.04 thresholds apart on average');
  expect(comparisonText({ ...SHADOW, alerts: 0, active_alerts: 0 })).toMatch(/^neither was over its threshold;/);
  expect(comparisonText({ ...SHADOW, alerts: 1, active_alerts: 0 })).toMatch(/^it was over its threshold once, the active one never;/);
});

test('times of a sample are in microseconds only where they are short', () => {
  expect([61, 412, 8400, 61_000].map(latencyText)).toEqual(['61 µs', '0.4 ms', '8.4 ms', '61 ms']);
});

test('a reason is in words, also one that this page does not know', () => {
  expect(reasonText('crash_loop')).toBe('the gateway did not stay up with it');
  expect(reasonText('stolen_by_magpies' as Reason)).toBe('stolen by magpies');
  expect(registryText({ reason: 'expired' })).toBe('The registry’s metadata is out of date');
  expect(registryText({ reason: 'wrong_key' })).toBe('The registry’s metadata is refused: signed with a wrong key');
});

describe('where a version is', () => {
  const V = modelVersion('1.1.0');
  const words = (...args: Parameters<typeof farmModels>): string[] => placesOf(V, farmModels(...args)).map((place) => place.word);

  test('nowhere without an assignment', () => {
    expect(words(status(), [])).toEqual([]);
    expect(words(status(), [assignment('1.2.0', 2)])).toEqual([]);
  });

  test('from waiting over each phase to active', () => {
    const assigned = [assignment('1.1.0', 2)];
    expect(words(status(), assigned)).toEqual(['waiting']);
    for (const [phase, word] of [['fetching', 'fetching'], ['verified', 'verified'], ['self_tested', 'self-tested'], ['shadow', 'in shadow']] as const) {
      expect(words(status({ candidate: candidate('1.1.0', { phase }) }), assigned)).toEqual([word]);
    }
    const active = { version: '1.1.0', digest: '', since: ago(1), why: '' };
    expect(words(status({ active }), assigned)).toEqual(['active']);
    expect(words(status({ active }), [assignment('1.0.0', 3)])).toEqual(['active']);
  });

  test('refused, unless it has been assigned again since', () => {
    const refused = status({ refusals: [refusal('1.1.0', { at: ago(30) })] });
    expect(words(refused, [assignment('1.1.0', 2, { at: ago(40) })])).toEqual(['refused']);
    expect(words(refused, [assignment('1.1.0', 3, { at: ago(20) })])).toEqual(['waiting']);
  });

  test('gateways are named while they are few', () => {
    const { assignments, gateways: [home] } = farmModels(status(), []);
    const farm = (...ids: string[]) => ({ assignments: ids.map((id) => assignment('1.1.0', 2, { gateway: id })).concat(assignments), gateways: ids.map((id) => ({ ...home!, id, name: id })) });
    const texts = (...ids: string[]): string[] => placeTexts(placesOf(V, farm(...ids))).map((place) => place.text);
    expect(texts('a', 'b')).toEqual(['waiting for a, b']);
    expect(texts('a', 'b', 'c')).toEqual(['waiting for 3 gateways']);
  });
});

test('a refusal stands until another version is active or on its way', () => {
  const refusals = [refusal('1.1.0', { at: ago(30) }), refusal('1.0.9', { at: ago(50) })];
  expect(standingRefusal(status({ refusals }))).toBe(refusals[0]);
  expect(standingRefusal(status({ refusals, candidate: candidate('1.1.1') }))).toBeUndefined();
  expect(standingRefusal(status({ refusals, active: { version: '1.1.1', digest: '', since: ago(10), why: '' } }))).toBeUndefined();
  expect(standingRefusal(status())).toBeUndefined();
});

test('what happened is told in a sentence', () => {
  const event = { gateway: 'home', model: MODEL, version: '1.1.0', at: ago(3), kind: 'activated', reason: null, text: '' } as const;
  expect(eventSentence(event, 'Home')).toBe('soil-anomaly 1.1.0 became active on Home');
  expect(eventSentence({ ...event, kind: 'refused', reason: 'golden' }, 'Home')).toBe(
    'soil-anomaly 1.1.0 was refused by Home: a golden sample comes out differently',
  );
  expect(eventSentence({ ...event, kind: 'refused', model: null, version: null, reason: 'expired' }, 'Home')).toBe(
    'The registry was refused by Home: the registry’s metadata is out of date',
  );
  expect((['activated', 'shadow', 'refused', 'rolled_back'] as const).map(eventTone)).toEqual(['ok', 'none', 'warning', 'fault']);
});

test('of several assignments the one with the highest serial holds', () => {
  const assignments = [assignment('1.1.0', 2), assignment('1.2.0', 3), assignment('1.0.0', 1), assignment('9.0.0', 9, { gateway: 'barn' })];
  expect(assignmentOf(assignments, 'home', MODEL)?.version).toBe('1.2.0');
  expect(assignmentOf(assignments, 'shed', MODEL)).toBeUndefined();
});
