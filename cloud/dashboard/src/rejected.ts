/** Readings that were not accepted, and why, in words. */

import { levelText } from './channel';
import type { ChannelSeries } from './client';
import { formatNumber, quantityFacts } from './quantity';

/** Why a reading is in no mean; after a count. */
const WORDS: Readonly<Record<string, string>> = {
  range: 'outside what is possible',
  rate: 'changed faster than it can',
  hampel: 'apart from their neighbours',
  duplicate: 'a second one of the same time',
  stuck: 'stood still for too long',
  late: 'too late',
  future: 'from the future',
  clock: 'of a wrong clock',
};

/** How many readings of one channel were rejected, and why. */
export interface RejectedOf {
  readonly channel: string;
  readonly total: number;
  /** "20 cm: 3 rejected, 2 outside what is possible, 1 apart from their neighbours" */
  readonly text: string;
}

/** Of each channel that has rejected readings: how many, and why, the commonest reason first. */
export function rejectedOf(series: readonly ChannelSeries[]): RejectedOf[] {
  return series.flatMap((s) => {
    const total = s.rejected.reduce((sum, count) => sum + count, 0);
    if (total === 0) return [];
    const counts = new Map<string, number>();
    for (const point of s.reasons) {
      for (const [reason, count] of Object.entries(point ?? {})) counts.set(reason, (counts.get(reason) ?? 0) + count);
    }
    const reasons = [...counts].toSorted(([a, of], [b, than]) => than - of || a.localeCompare(b));
    const why = reasons.map(([reason, count]) => `${formatNumber(count)} ${WORDS[reason] ?? reason}`);
    const name = s.level_cm === null ? quantityFacts(s.quantity).label : levelText(s.level_cm);
    return [{ channel: s.channel, total, text: `${name}: ${[`${formatNumber(total)} rejected`, ...why].join(', ')}` }];
  });
}

/** "7 of a wrong clock, 3 too late": the commonest reason first; nothing where there is none. */
export function untimelyText(counts: Readonly<Record<string, number>>): string {
  return Object.entries(counts)
    .filter(([, count]) => count > 0)
    .toSorted(([, of], [, than]) => than - of)
    .map(([reason, count]) => `${formatNumber(count)} ${WORDS[reason] ?? reason}`)
    .join(', ');
}

/** A point's reasons as one cell of a table: "hampel 1; range 2". */
export function reasonsText(point: Readonly<Record<string, number>> | null | undefined): string {
  return Object.entries(point ?? {})
    .map(([reason, count]) => `${reason} ${count}`)
    .join('; ');
}
