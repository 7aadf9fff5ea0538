import { expect, test } from 'vitest';
import { csvName, csvOf } from './csv';
import { channelSeries, stationSeries } from './fixtures';

test('a row for each point, times in UTC, nothing where there is nothing', () => {
  const series = { ...channelSeries('soil_moisture_20cm', 1_436_878_800, [0.25, null]), rejected: [0, 3], reasons: [null, { hampel: 1, range: 2 }], rejected_min: [null, 1.7], rejected_max: [null, 1.8] };
  expect(csvOf('c3', stationSeries([series], 0, 1)).split('\r\n')).toEqual([
    'time,station,channel,unit,mean,min,max,count,rejected,rejected_min,rejected_max,reasons',
    '2015-07-14T13:00:00.000Z,c3,soil_moisture_20cm,m3/m3,0.25,0.24,0.26,3,0,,,',
    '2015-07-14T13:15:00.000Z,c3,soil_moisture_20cm,m3/m3,,,,0,3,1.7,1.8,hampel 1; range 2',
    '',
  ]);
});

test('what would break a row is quoted', () => {
  const series = { ...channelSeries('rain', 0, [1]), unit: 'a,"b"' };
  expect(csvOf('c3', stationSeries([series], 0, 1))).toContain('c3,rain,"a,""b""",1,');
});

test('a file’s name sorts by station and time', () => {
  expect(csvName('c3', 'week', Date.parse('2015-07-14T13:04:00Z'))).toBe('c3_week_2015-07-14T1304Z.csv');
});
