/** How a station is: heard or not, faulty or not, its soil dry or not. */

import { rootZoneChannel } from './channel';
import type { Alert, AlertKind, Field, Station } from './client';
import { wetness, wetnessTone } from './field-state';
import type { Tone } from './tone';

/** An alert in one word. */
export const ALERT_WORD: Readonly<Record<AlertKind, string>> = {
  stuck: 'stuck',
  dropout: 'no data',
  spike: 'spikes',
  silent: 'silent',
  anomaly: 'unusual',
};

/** Faults need somebody; what a model finds unusual may be one. */
export function alertTone(kind: AlertKind): Tone {
  return kind === 'anomaly' ? 'warning' : 'fault';
}

/** Faults that void the data come first. */
const ALERT_ORDER: readonly AlertKind[] = ['silent', 'stuck', 'dropout', 'spike', 'anomaly'];

/** Most urgent first, then newest. */
export function byAlertUrgency(a: Alert, b: Alert): number {
  return ALERT_ORDER.indexOf(a.kind) - ALERT_ORDER.indexOf(b.kind) || Date.parse(b.opened) - Date.parse(a.opened);
}

export interface StationState {
  readonly word: string;
  readonly tone: Tone;
}

/** The gateway sums up 15 minutes, and waits for late readings, before a value can be seen. */
const WINDOW_MS = 15 * 60_000;
/** Reports that may be missing before a station counts as late. */
const MISSED_REPORTS = 3;
/** Where a station has not said how often it reports. */
const USUAL_REPORT_S = 900;
/** What uplink and page take at most, in our seconds: hours of a farm whose time is simulated fast. */
const DELIVERY_S = 15;

/** The age from which a value of this station is old, ms of farm time. */
export function staleAfter(station: Pick<Station, 'report_s'>, speed: number): number {
  return MISSED_REPORTS * (station.report_s ?? USUAL_REPORT_S) * 1000 + 2 * WINDOW_MS + DELIVERY_S * 1000 * speed;
}

export function isLate(station: Pick<Station, 'report_s' | 'last_heard'>, now: number, speed: number): boolean {
  return station.last_heard !== null && now - Date.parse(station.last_heard) > staleAfter(station, speed);
}

/** The station in one word, the most urgent that is true. `alerts` are the open ones of any stations. */
export function stationState(
  station: Station,
  field: Field | undefined,
  alerts: readonly Alert[],
  now: number,
  speed: number,
): StationState {
  const own = alerts.filter((a) => a.station === station.id).toSorted(byAlertUrgency);
  const worst = own[0];
  if (worst && alertTone(worst.kind) === 'fault') return { word: ALERT_WORD[worst.kind], tone: 'fault' };
  if (station.last_heard === null) return { word: 'not heard yet', tone: 'none' };
  if (isLate(station, now, speed)) return { word: 'late', tone: 'warning' };
  if (worst) return { word: ALERT_WORD[worst.kind], tone: 'warning' };
  const channel = rootZoneChannel(station.latest.map((l) => l.channel));
  const moisture = station.latest.find((l) => l.channel === channel)?.value;
  if (field && moisture !== undefined) {
    const state = wetness(moisture, field);
    if (wetnessTone(state) !== 'ok') return { word: state, tone: 'warning' };
  }
  return { word: 'ok', tone: 'ok' };
}
