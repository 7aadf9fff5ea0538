import { describe, expect, test } from 'vitest';
import { alert, channelSeries, stationSeries } from './fixtures';
import { concerns, sections } from './panel';

const week = stationSeries(
  [
    channelSeries('battery', 0, [3.9, 3.9]),
    channelSeries('rain', 0, [0.1, 0.1]),
    channelSeries('soil_moisture_40cm', 0, [0.26, 0.26]),
    channelSeries('soil_moisture_10cm', 0, [0.2, 0.21]),
    channelSeries('soil_moisture_20cm', 0, [0.24, 0.24]),
    channelSeries('soil_temperature_10cm', 0, []),
  ],
  0,
  1800,
);
const panels = sections(week, 'mean of 15 min').flatMap((s) => s.panels);
const moisture = panels[0];

test('soil comes first, the station’s own state last, and what it does not measure not at all', () => {
  expect(sections(week, '').map((s) => s.title)).toEqual(['Soil', 'Station']);
  expect(panels.map((p) => p.quantity)).toEqual(['soil_moisture', 'rain', 'soil_temperature', 'battery']);
});

test('depth is one hue from light to dark, shallow to deep', () => {
  expect(moisture?.lines.map((l) => [l.label, l.colour])).toEqual([
    ['10 cm', 'depth-1'],
    ['20 cm', 'depth-2'],
    ['40 cm', 'depth-3'],
  ]);
});

test('a panel says its unit and what a point is', () => {
  expect(moisture?.note).toBe('m³/m³ · mean of 15 min, shade min–max');
  expect(panels[1]).toMatchObject({ note: 'mm per hour', form: 'bars', times: [0] });
});

test('a channel without points has a chart, empty', () => {
  expect(panels[2]?.times).toEqual([]);
  expect(panels[2]?.axis.lines).toHaveLength(4);
});

describe('the axis', () => {
  const withRejected = (value: number): number => {
    const series = { ...channelSeries('soil_moisture_20cm', 0, [0.24, 0.26]), rejected_min: [value, null], rejected_max: [value, null] };
    return sections(stationSeries([series], 0, 1800), '')[0]?.panels[0]?.axis.max ?? 0;
  };

  test('reaches out for a rejected reading that is near', () => {
    expect(withRejected(0.285)).toBeGreaterThanOrEqual(0.285);
  });

  test('is not squashed by one that is far', () => {
    expect(withRejected(1.73)).toBeLessThan(0.4);
  });
});

test('an alert is marked on its channel’s chart, one about the station on all', () => {
  const marked = (changes: Parameters<typeof alert>[1]): string[] =>
    panels.filter((p) => concerns(alert('anomaly', changes), p)).map((p) => p.quantity);
  expect(marked({ channel: 'battery' })).toEqual(['battery']);
  expect(marked({ channel: null })).toHaveLength(panels.length);
  expect(marked({ channel: null, drivers: [{ channel: 'rain', share: 1 }] })).toEqual(['rain']);
});
