import { expect, test } from 'vitest';
import { channelGroups, hoursText, inputGroups, windowsText } from './inputs';

test('inputs are told by quantity, with what is taken of each window', () => {
  const features = ['soil_moisture_10cm.mean', 'soil_moisture_20cm.mean', 'rain.mean', 'air_temperature_200cm.min', 'air_temperature_200cm.max'];
  expect(inputGroups(features)).toEqual([
    { label: 'soil moisture 10, 20 cm', statistics: null },
    { label: 'rain', statistics: null },
    { label: 'air temperature 2 m', statistics: 'min, max' },
  ]);
});

test('levels in different units each have their own', () => {
  expect(channelGroups(['air_temperature_50cm', 'air_temperature_200cm', 'battery'])).toEqual(['air temperature 50 cm, 2 m', 'battery']);
});

test('windows are told with the time that they reach back', () => {
  expect(windowsText({ steps: 96, window_s: 900 })).toBe('96 windows of 15 min: the last 24 h');
  expect(windowsText({ steps: 1, window_s: 900 })).toBe('one window of 15 min');
});

test('a day that is planned is 24 hours, ten days are ten days', () => {
  expect([1800, 3600, 86_400, 172_800, 864_000].map(hoursText)).toEqual(['30 min', '1 h', '24 h', '48 h', '10 d']);
});
