/** Series as a file that spreadsheets and scripts read (RFC 4180). */

import type { StationSeries } from './client';
import { reasonsText } from './rejected';

const HEADER = ['time', 'station', 'channel', 'unit', 'mean', 'min', 'max', 'count', 'rejected', 'rejected_min', 'rejected_max', 'reasons'];

/** A row for each point of each channel; times are the starts of the points, in UTC. */
export function csvOf(station: string, data: StationSeries): string {
  const rows: string[][] = [HEADER];
  for (const s of data.series) {
    s.time.forEach((time, i) => {
      const cells = [s.mean[i], s.min[i], s.max[i], s.count[i], s.rejected[i], s.rejected_min[i], s.rejected_max[i], reasonsText(s.reasons[i])];
      rows.push([new Date(time * 1000).toISOString(), station, s.channel, s.unit, ...cells.map((v) => (v === null || v === undefined ? '' : String(v)))]);
    });
  }
  return rows.map((row) => `${row.map(quoted).join(',')}\r\n`).join('');
}

function quoted(cell: string): string {
  return /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
}

/** A name that sorts by station and time: "n3_week_2015-07-14T0604Z.csv". */
export function csvName(station: string, span: string, toMs: number): string {
  return `${station}_${span}_${new Date(toMs).toISOString().slice(0, 16).replace(':', '')}Z.csv`;
}
