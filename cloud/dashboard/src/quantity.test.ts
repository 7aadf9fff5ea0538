import { describe, expect, test } from 'vitest';
import { formatBytes, formatNumber, formatShare, formatValue, formatWithUnit, readableUnits } from './quantity';

describe('values', () => {
  test.each([
    ['soil_moisture', 0.2414, '0.241'],
    ['soil_temperature', 24.06, '24.1'],
    ['rain', 0, '0.0'],
    ['battery', 3.714, '3.71'],
    ['rssi', -91.6, '−92'],
    ['solar_radiation', 1043.2, '1,043'],
  ])('%s has one precision', (quantity, value, text) => {
    expect(formatValue(quantity, value)).toBe(text);
  });

  test('what rounds to zero has no minus sign', () => {
    expect(formatValue('soil_temperature', -0.04)).toBe('0.0');
  });

  test('no value is a dash, also with a unit', () => {
    expect(formatValue('battery', null)).toBe('–');
    expect(formatWithUnit('battery', undefined)).toBe('–');
    expect(formatNumber(Number.NaN)).toBe('–');
  });

  test('value and unit stay on one line', () => {
    expect(formatWithUnit('soil_moisture', 0.241)).toBe('0.241\u00a0m³/m³');
  });

  test('a quantity that is not known is shown all the same', () => {
    expect(formatWithUnit('sap_flow', 1.234)).toBe('1.23');
  });
});

test('a small share is not shown as nothing', () => {
  expect([0.916, 0.004, 0].map(formatShare)).toEqual(['92 %', '< 1 %', '0 %']);
});

test('bytes have one to three digits', () => {
  expect([512, 48_300_000, 250_000_000_000].map(formatBytes)).toEqual(['512 B', '48.3 MB', '250 GB']);
});

test('units in a sentence are written as people write them', () => {
  expect(readableUnits('stuck at 0.241 m3/m3 and 31.2 Cel')).toBe('stuck at 0.241\u00a0m³/m³ and 31.2\u00a0°C');
  expect(readableUnits('4 minutes at 20 cm')).toBe('4 minutes at 20\u00a0cm');
});
