/** In which order a table has its stations. */

import type { Station } from './client';

export type SortKey = 'station' | 'field' | 'moisture' | 'soil_temperature' | 'battery' | 'rssi' | 'heard' | 'state';

export interface Sort {
  readonly key: SortKey;
  readonly descending: boolean;
}

/** A station and what its row shows. */
export interface StationRow {
  readonly station: Station;
  readonly fieldName: string;
  readonly values: Readonly<Partial<Record<SortKey, number | null>>>;
}

const names = new Intl.Collator('en', { numeric: true });

/** Rows by a column; equal ones by field and name, and those without a value last whichever way. */
export function sorted<Row extends StationRow>(rows: readonly Row[], { key, descending }: Sort): Row[] {
  const sign = descending ? -1 : 1;
  const byName = (a: StationRow, b: StationRow): number => names.compare(a.station.id, b.station.id);
  const byField = (a: StationRow, b: StationRow): number => names.compare(a.fieldName, b.fieldName) || byName(a, b);
  return rows.toSorted((a, b) => {
    if (key === 'station') return sign * byName(a, b);
    if (key === 'field') return sign * byField(a, b);
    const [left, right] = [a.values[key] ?? null, b.values[key] ?? null];
    if (left === null || right === null) return left === right ? byField(a, b) : left === null ? 1 : -1;
    return sign * (left - right) || byField(a, b);
  });
}
