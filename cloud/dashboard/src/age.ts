/** Ages and durations in words. All take milliseconds. */

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** A duration in its two largest units: "5 h 41 min", "3 d 4 h", "12 min", "40 s". */
export function durationText(ms: number): string {
  const length = Math.max(0, ms);
  if (length < MINUTE) return `${Math.floor(length / 1000)} s`;
  if (length < HOUR) return `${Math.floor(length / MINUTE)} min`;
  if (length < DAY) return twoUnits(Math.floor(length / HOUR), 'h', Math.floor((length % HOUR) / MINUTE), 'min');
  return twoUnits(Math.floor(length / DAY), 'd', Math.floor((length % DAY) / HOUR), 'h');
}

function twoUnits(large: number, largeUnit: string, small: number, smallUnit: string): string {
  return small === 0 ? `${large} ${largeUnit}` : `${large} ${largeUnit} ${small} ${smallUnit}`;
}

/** How long ago, where a number stands beside it: "now", "2 min", "5 h 41 min". */
export function ageText(ms: number): string {
  return ms < MINUTE ? 'now' : durationText(ms);
}

/** How long ago, in a sentence: "just now", "2 min ago". */
export function agoText(ms: number): string {
  return ms < MINUTE ? 'just now' : `${durationText(ms)} ago`;
}
