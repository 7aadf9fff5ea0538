import { describe, expect, test } from 'vitest';
import { fieldReading, fieldSparkline, gauge, median, rainTotal, wetness } from './field-state';
import { ago, CREEK, latest, station } from './fixtures';

test.each([
  [0.199, 'below refill'],
  [0.2, 'near refill'],
  [0.219, 'near refill'],
  [0.22, 'in range'],
  [0.33, 'in range'],
  [0.331, 'above field capacity'],
] as const)('a moisture of %d is %s', (moisture, state) => {
  expect(wetness(moisture, CREEK)).toBe(state);
});

describe('a field’s number', () => {
  const stations = [station('c1', 0.26), station('c2', 0.27), station('c3', 0.9)];

  test('is the median of its stations, which one faulty sensor does not move', () => {
    expect(fieldReading(stations, () => true)).toMatchObject({ channel: 'soil_moisture_20cm', moisture: 0.27, of: 3 });
  });

  test('leaves out stations that are not heard', () => {
    expect(fieldReading(stations, (s) => s.id !== 'c3').moisture).toBeCloseTo(0.265);
  });

  test('is of all stations when none is heard, so that something is shown, with its age', () => {
    expect(fieldReading(stations, () => false)).toMatchObject({ moisture: 0.27, time: Date.parse(ago(10)) });
  });

  test('is missing before any station has reported', () => {
    expect(fieldReading([], () => true)).toMatchObject({ moisture: null, time: null, of: 0 });
  });

  test('comes with the shallowest temperatures', () => {
    const warm = station('c1', 0.26, { latest: [latest('soil_temperature_30cm', 20), latest('soil_temperature_10cm', 24)] });
    expect(fieldReading([warm], () => true).soilTemperature).toBe(24);
  });
});

test('a field’s line is the median at each step, and has gaps where all stations have', () => {
  const lines = { from: '', to: '', step_s: 3600, stations: { c1: [0.1, null, null], c2: [0.3, 0.4, null] } };
  expect(fieldSparkline(lines, [station('c1', 0), station('c2', 0)])).toEqual([0.2, 0.4, null]);
  expect(fieldSparkline(null, [station('c1', 0)])).toEqual([]);
});

test('an hour’s rain is its mean reading times the readings of an hour', () => {
  expect(rainTotal([0, 0.5, null, 0.25], 3600, 300)).toBeCloseTo(9);
  expect(rainTotal([null], 3600, 300)).toBeNull();
  expect(rainTotal([1], 3600, 0)).toBeNull();
});

test('the gauge keeps its marks in order and its value inside', () => {
  const { refill, fieldCapacity, value } = gauge(CREEK, 0.26);
  expect(refill).toBeLessThan(value ?? 0);
  expect(value).toBeLessThan(fieldCapacity);
  expect(gauge(CREEK, 0.05).value).toBe(0);
  expect(gauge(CREEK, 0.6).value).toBe(1);
  expect(gauge(CREEK, null).value).toBeNull();
});

test('the median of an even number is between the middle two', () => {
  expect([median([3, 1, 2]), median([4, 1, 2, 3]), median([])]).toEqual([2, 2.5, null]);
});
