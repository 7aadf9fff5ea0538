import { expect, test } from 'vitest';
import { station } from './fixtures';
import { sorted, type StationRow } from './station-order';

const row = (id: string, fieldName: string, moisture: number | null): StationRow => ({ station: station(id, 0), fieldName, values: { moisture } });
const rows = [row('n10', 'North', 0.2), row('n2', 'North', null), row('c1', 'Creek', 0.3)];
const ids = (key: 'station' | 'field' | 'moisture', descending: boolean): string[] => sorted(rows, { key, descending }).map((r) => r.station.id);

test('names are ordered as people count', () => {
  expect(ids('station', false)).toEqual(['c1', 'n2', 'n10']);
  expect(ids('field', true)).toEqual(['n10', 'n2', 'c1']);
});

test('what has no value is last, whichever way', () => {
  expect(ids('moisture', false)).toEqual(['n10', 'c1', 'n2']);
  expect(ids('moisture', true)).toEqual(['c1', 'n10', 'n2']);
});
