import { expect, test } from 'vitest';
import type { Gateway } from './client';
import { ago, gateway, NOW } from './fixtures';
import { gatewayState, lanesOf, linkText } from './gateway-state';

const wordOf = (changes: Partial<Gateway>, speed = 1): string => gatewayState(gateway(changes), NOW, speed).word;

test('a gateway that reports is ok, one that does not is not heard', () => {
  expect(wordOf({})).toBe('ok');
  expect(wordOf({ last_seen: ago(30) })).toBe('not heard');
  expect(wordOf({ last_seen: ago(30) }, 720)).toBe('ok');
  expect(wordOf({ last_seen: null })).toBe('not heard yet');
});

test('a gateway with an old backlog is behind', () => {
  const status = { backlog_oldest: ago(90) } as NonNullable<Gateway['status']>;
  expect(wordOf({ status })).toBe('behind');
  expect(wordOf({ status: { ...status, backlog_oldest: ago(20) } })).toBe('ok');
});

test('lanes stand by priority, with ages where the gateway says them', () => {
  const backlog = { aggregates: 7, alerts: 0, backfill: 900, unheard_of: 1 };
  const oldest = ago(90);
  const uplink = { lanes: { backfill: { records: 900, oldest, refused: 2, dropped: 5 } }, link: null, budget: null };
  expect(lanesOf({ backlog, uplink })).toEqual([
    { name: 'alerts', records: 0, oldest: null, refused: 0, dropped: 0 },
    { name: 'aggregates', records: 7, oldest: null, refused: 0, dropped: 0 },
    { name: 'backfill', records: 900, oldest, refused: 2, dropped: 5 },
    { name: 'unheard_of', records: 1, oldest: null, refused: 0, dropped: 0 },
  ]);
});

test('a link is up or down for a while', () => {
  expect(linkText({ up: true, since: ago(90) }, NOW)).toBe('up for 1 h 30 min');
  expect(linkText({ up: false, since: ago(5) }, NOW)).toBe('down for 5 min');
});
