import { momentText } from './farm-time';

/** A gateway's or the registry's sentence, with its times (RFC 3339, UTC) as the farm's clocks show them. */
export function readableTimes(text: string, now: number, timeZone: string): string {
  return text.replace(/\b\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d+)?)?Z/g, (time) => {
    const at = Date.parse(time);
    return Number.isNaN(at) ? time : momentText(at, now, timeZone);
  });
}
