/** What a decision on irrigation says, in few words. */

import type { Decision } from './client';
import type { Tone } from './tone';

const HOLDS: Readonly<Record<Decision['cause'], string>> = {
  due: 'Irrigate',
  moist: 'Hold: moist enough',
  rain: 'Hold: rain',
  settling: 'Hold: water goes down',
  hours: 'Hold: not the hour',
  spent: 'Hold: day\u2019s minutes used up',
  small: 'Hold: too little is missing',
  untrusted: 'Hold: too few good probes',
  unconfirmed: 'Hold: valve unconfirmed',
};

/** How many valves have said that they carried it out, when it was commanded. */
function carriedOut(stations: readonly string[], confirmed: readonly string[]): string {
  if (confirmed.length === 0) return 'commanded';
  return confirmed.length === stations.length ? 'carried out' : `carried out by ${confirmed.length} of ${stations.length} valves`;
}

export function decisionText(decision: Pick<Decision, 'cause' | 'mm' | 'minutes' | 'stations' | 'confirmed'>): string {
  const { cause, mm, minutes, stations, confirmed } = decision;
  if (mm === null || minutes === null) return HOLDS[cause];
  const water = `${mm.toFixed(1)} mm in ${minutes} min`;
  return stations.length === 0 ? `Advice: irrigate ${water}` : `Irrigate ${water}: ${carriedOut(stations, confirmed)}`;
}

/** Somebody must look after what could not be decided, or was not carried out. */
export function decisionTone(decision: Pick<Decision, 'cause'>): Tone {
  if (decision.cause === 'untrusted' || decision.cause === 'unconfirmed') return 'warning';
  return decision.cause === 'due' ? 'ok' : 'none';
}
