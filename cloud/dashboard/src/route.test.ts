import { expect, test } from 'vitest';
import { pathOf, type Route, routeOf } from './route';

const parse = (path: string): Route => routeOf(new URL(path, 'http://farm.example'));

test.each([
  '/',
  '/farms/fallon',
  '/farms/fallon/stations',
  '/farms/fallon/stations?field=creek',
  '/farms/fallon/stations/c3',
  '/farms/fallon/stations/c3?span=month&at=2015-07-14T13%3A00%3A00.000Z',
  '/farms/fallon/alerts',
  '/farms/fallon/alerts?state=all&station=c3',
  '/farms/fallon/models',
  '/farms/fallon/models/soil-anomaly/1.1.0',
  '/farms/fallon/gateways',
])('%s is its page’s own address', (path) => {
  expect(pathOf(parse(path))).toBe(path);
});

test('what is not understood in a query is left out', () => {
  expect(pathOf(parse('/farms/fallon/stations/c3?span=eon&at=teatime'))).toBe('/farms/fallon/stations/c3');
  expect(pathOf(parse('/farms/fallon/alerts?state=maybe'))).toBe('/farms/fallon/alerts');
});

test.each(['/barns', '/farms', '/farms/fallon/maps', '/farms/fallon/alerts/7', '/farms/fallon/models/soil-anomaly', '/farms/fallon/models/a/1.0.0/b', '/farms/fallon/stations/c3/1.0.0', '/farms/%E0%A4%A'])('%s is no page', (path) => {
  expect(parse(path).page).toBe('unknown');
});
