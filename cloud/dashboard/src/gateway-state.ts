/** How a gateway is: heard or not, up to date with what it sends or behind. */

import { durationText } from './age';
import type { Gateway } from './client';
import type { Tone } from './tone';

/** A gateway whose last report is older is not heard: farm time, and our seconds that a fast simulation turns into hours. */
const LATE_MS = 15 * 60_000;
const LATE_S = 60;

/** A backlog whose oldest record is older is more than what is just being sent. */
const BEHIND_MS = 3_600_000;
const BEHIND_S = 60;

export function isGatewayLate(gateway: Pick<Gateway, 'last_seen'>, now: number, speed: number): boolean {
  return gateway.last_seen !== null && now - Date.parse(gateway.last_seen) > LATE_MS + LATE_S * 1000 * speed;
}

export function gatewayState(gateway: Gateway, now: number, speed: number): { readonly word: string; readonly tone: Tone } {
  if (gateway.last_seen === null) return { word: 'not heard yet', tone: 'none' };
  if (isGatewayLate(gateway, now, speed)) return { word: 'not heard', tone: 'fault' };
  const oldest = gateway.status?.backlog_oldest ?? null;
  if (oldest !== null && now - Date.parse(oldest) > BEHIND_MS + BEHIND_S * 1000 * speed) return { word: 'behind', tone: 'warning' };
  return { word: 'ok', tone: 'ok' };
}

type Status = NonNullable<Gateway['status']>;

export interface LaneState {
  readonly name: string;
  readonly records: number;
  readonly oldest: string | null;
  readonly refused: number;
  readonly dropped: number;
}

/** By priority; an older gateway says only how much waits. */
const PRIORITY = ['alerts', 'decisions', 'births', 'aggregates', 'backfill'];

export function lanesOf(status: Pick<Status, 'backlog' | 'uplink'>): readonly LaneState[] {
  const names = Object.keys(status.backlog);
  const place = (name: string): number => (PRIORITY.includes(name) ? PRIORITY.indexOf(name) : PRIORITY.length);
  return names
    .sort((a, b) => place(a) - place(b))
    .map((name) => {
      const lane = status.uplink.lanes[name];
      return { name, records: status.backlog[name] ?? 0, oldest: lane?.oldest ?? null, refused: lane?.refused ?? 0, dropped: lane?.dropped ?? 0 };
    });
}

/** What a gateway said of its link when it last could: a link that is down says nothing. */
export function linkText(link: Pick<NonNullable<Status['uplink']['link']>, 'up' | 'since'>, now: number): string {
  return `${link.up ? 'up' : 'down'} for ${durationText(now - Date.parse(link.since))}`;
}
