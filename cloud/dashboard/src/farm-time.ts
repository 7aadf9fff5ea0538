/** The farm's clock and calendar. A simulated farm's time runs faster than ours; every age on the page is in the farm's time. */

/** Farm time from the server's last word: what it was, when that was said, and how fast it goes. */
export class FarmClock {
  constructor(
    /** Farm time when the server spoke, ms since the epoch. */
    private readonly farmMs: number,
    /** Our clock at that moment, ms. Only differences to it are used, so a wrong browser clock does no harm. */
    private readonly wallMs: number,
    /** Farm seconds in one of ours. */
    readonly speed: number,
  ) {}

  at(wallMs: number): number {
    return this.farmMs + (wallMs - this.wallMs) * this.speed;
  }
}

const formatters = new Map<string, Intl.DateTimeFormat>();

function formatter(timeZone: string, options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  const key = timeZone + JSON.stringify(options);
  let found = formatters.get(key);
  if (found === undefined) {
    found = new Intl.DateTimeFormat('en-GB', { timeZone, hourCycle: 'h23', ...options });
    formatters.set(key, found);
  }
  return found;
}

/** Wall-clock parts of a moment on the farm. */
export interface LocalTime {
  readonly year: number;
  readonly month: number;
  readonly day: number;
  readonly hour: number;
  readonly minute: number;
  readonly second: number;
}

export function localTime(ms: number, timeZone: string): LocalTime {
  const parts: Record<string, number> = {};
  const format = formatter(timeZone, {
    year: 'numeric',
    month: 'numeric',
    day: 'numeric',
    hour: 'numeric',
    minute: 'numeric',
    second: 'numeric',
  });
  for (const { type, value } of format.formatToParts(ms)) parts[type] = Number(value);
  const { year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0 } = parts;
  return { year, month, day, hour, minute, second };
}

/** The moment when the farm's clocks show this; a time that is skipped in spring is the one an hour later. */
export function momentOf(year: number, month: number, day: number, hour: number, timeZone: string): number {
  const wanted = Date.UTC(year, month - 1, day, hour);
  let ms = wanted;
  // Two rounds: the first guess may lie on the other side of a change of the clocks.
  for (let round = 0; round < 2; round += 1) {
    const shown = localTime(ms, timeZone);
    ms += wanted - Date.UTC(shown.year, shown.month - 1, shown.day, shown.hour, shown.minute, shown.second);
  }
  return ms;
}

/** "06:04" */
export function clockText(ms: number, timeZone: string): string {
  return formatter(timeZone, { hour: '2-digit', minute: '2-digit' }).format(ms);
}

/** "Tuesday 14 July" */
export function dayText(ms: number, timeZone: string): string {
  return formatter(timeZone, { weekday: 'long', day: 'numeric', month: 'long' }).format(ms).replace(',', '');
}

/** "Tue 14" */
export function shortDayText(ms: number, timeZone: string): string {
  return formatter(timeZone, { weekday: 'short', day: 'numeric' }).format(ms).replace(',', '');
}

/** "14 Jul" */
export function dateText(ms: number, timeZone: string): string {
  return formatter(timeZone, { day: 'numeric', month: 'short' }).format(ms);
}

/** "14 Jul 2015, 06:04" */
export function fullText(ms: number, timeZone: string): string {
  return `${dateText(ms, timeZone)} ${localTime(ms, timeZone).year}, ${clockText(ms, timeZone)}`;
}

const DAY_MS = 86_400_000;

/** A moment as short as `now` allows: "06:04" today, "Tue 06:04" within six days, else "14 Jul, 06:04". */
export function momentText(ms: number, now: number, timeZone: string): string {
  const time = clockText(ms, timeZone);
  if (dateText(ms, timeZone) === dateText(now, timeZone) && Math.abs(now - ms) < 2 * DAY_MS) return time;
  if (ms <= now && now - ms < 6 * DAY_MS) return `${formatter(timeZone, { weekday: 'short' }).format(ms)} ${time}`;
  return `${dateText(ms, timeZone)}, ${time}`;
}

export function greeting(ms: number, timeZone: string): string {
  const { hour } = localTime(ms, timeZone);
  if (hour < 12) return 'Good morning';
  return hour < 18 ? 'Good afternoon' : 'Good evening';
}
