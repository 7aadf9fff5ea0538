/** Where a chart's time axis has its labels and ticks, in the farm's own days. All in ms since the epoch. */

import { clockText, dateText, localTime, momentOf, shortDayText } from './farm-time';

export interface AxisLabel {
  readonly ms: number;
  readonly text: string;
}

export interface TimeAxis {
  /** Labels; those of days stand in the middle of their day. */
  readonly labels: readonly AxisLabel[];
  /** Where the days (or hours) begin. */
  readonly ticks: readonly number[];
}

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** The axis of `from` to `to` with at most `room` labels. */
export function timeAxis(from: number, to: number, timeZone: string, room: number): TimeAxis {
  const most = Math.max(2, room);
  return to - from <= 3 * DAY_MS ? hourAxis(from, to, timeZone, most) : dayAxis(from, to, timeZone, most);
}

function hourAxis(from: number, to: number, timeZone: string, most: number): TimeAxis {
  const hours = (to - from) / HOUR_MS;
  const step = [1, 2, 3, 4, 6, 12].find((h) => hours / h <= most) ?? 24;
  const ticks: number[] = [];
  for (let day = dayStart(from, 0, timeZone), offset = 0; day <= to; offset += 1, day = dayStart(from, offset, timeZone)) {
    const { year, month, day: date } = localTime(day, timeZone);
    for (let hour = 0; hour < 24; hour += step) {
      const ms = momentOf(year, month, date, hour, timeZone);
      if (ms >= from && ms <= to && ms !== ticks.at(-1)) ticks.push(ms);
    }
  }
  const labels = ticks.map((ms) => ({ ms, text: localTime(ms, timeZone).hour === 0 ? shortDayText(ms, timeZone) : clockText(ms, timeZone) }));
  return { labels, ticks };
}

function dayAxis(from: number, to: number, timeZone: string, most: number): TimeAxis {
  const days = (to - from) / DAY_MS;
  const step = [1, 2, 4, 7, 14, 28, 56, 91].find((d) => days / d <= most) ?? 182;
  const ticks: number[] = [];
  const labels: AxisLabel[] = [];
  for (let offset = 0; ; offset += 1) {
    const start = dayStart(from, offset, timeZone);
    if (start > to) break;
    if (start >= from && offset % step === 0) ticks.push(start);
    const middle = start + DAY_MS / 2;
    if (offset % step === 0 && middle >= from && middle <= to) {
      labels.push({ ms: middle, text: step === 1 ? shortDayText(middle, timeZone) : dateText(middle, timeZone) });
    }
  }
  return { labels, ticks };
}

/** Midnight on the farm of the day of `ms`, some days later. */
function dayStart(ms: number, daysLater: number, timeZone: string): number {
  const { year, month, day } = localTime(ms, timeZone);
  return momentOf(year, month, day + daysLater, 0, timeZone);
}
