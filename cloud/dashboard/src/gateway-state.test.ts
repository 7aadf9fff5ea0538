import { expect, test } from 'vitest';
import type { Gateway } from './client';
import { ago, gateway, NOW } from './fixtures';
import { gatewayState } from './gateway-state';

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
