/** How urgent something is. Never colour alone: a word goes with it. */
export type Tone = 'ok' | 'warning' | 'fault' | 'none';

const URGENCY: Readonly<Record<Tone, number>> = { fault: 0, warning: 1, none: 2, ok: 3 };

/** Most urgent first. */
export function byUrgency(a: Tone, b: Tone): number {
  return URGENCY[a] - URGENCY[b];
}
