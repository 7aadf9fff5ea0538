import { expect, test } from 'vitest';
import { channelLabel, parseChannel, rootZoneChannel, shallowest } from './channel';

test('a channel is a quantity at a level, or a quantity', () => {
  expect(parseChannel('soil_moisture_20cm')).toEqual({ quantity: 'soil_moisture', levelCm: 20 });
  expect(parseChannel('rain')).toEqual({ quantity: 'rain', levelCm: null });
});

test('a channel is said as people say it', () => {
  expect(['soil_ec_20cm', 'air_temperature_200cm', 'rssi'].map(channelLabel)).toEqual(['soil EC 20 cm', 'air temperature 2 m', 'signal']);
});

test('the root zone is the depth nearest to 20 cm', () => {
  expect(rootZoneChannel(['soil_moisture_10cm', 'soil_moisture_20cm', 'soil_moisture_40cm'])).toBe('soil_moisture_20cm');
  expect(rootZoneChannel(['soil_moisture_30cm', 'soil_moisture_10cm'])).toBe('soil_moisture_10cm');
  expect(rootZoneChannel(['rain'])).toBeNull();
});

test('the shallowest channel of a quantity', () => {
  expect(shallowest(['soil_temperature_30cm', 'soil_temperature_10cm', 'rain'], 'soil_temperature')).toBe('soil_temperature_10cm');
});
