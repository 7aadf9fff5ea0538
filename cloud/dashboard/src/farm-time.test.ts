import { describe, expect, test } from 'vitest';
import { clockText, dayText, FarmClock, fullText, greeting, localTime, momentOf, momentText } from './farm-time';

const ZONE = 'America/Los_Angeles';
const MORNING = Date.parse('2015-07-14T13:04:00Z');

describe('the farm clock', () => {
  test('goes on from what the server said, at its speed', () => {
    const clock = new FarmClock(MORNING, 1000, 720);
    expect(clock.at(1000)).toBe(MORNING);
    expect(clock.at(3000) - MORNING).toBe(2 * 720 * 1000);
  });

  test('does not depend on the browser clock being right', () => {
    expect(new FarmClock(MORNING, 0, 1).at(5000)).toBe(MORNING + 5000);
  });
});

test('times are in the farm’s zone', () => {
  expect(clockText(MORNING, ZONE)).toBe('06:04');
  expect(dayText(MORNING, ZONE)).toBe('Tuesday 14 July');
  expect(fullText(MORNING, ZONE)).toBe('14 Jul 2015, 06:04');
  expect(clockText(Date.parse('2015-07-14T07:00:00Z'), ZONE)).toBe('00:00');
});

test('a moment is as short as now allows', () => {
  const moment = (hours: number): string => momentText(MORNING - hours * 3_600_000, MORNING, ZONE);
  expect([moment(1), moment(7), moment(200)]).toEqual(['05:04', 'Mon 23:04', '5 Jul, 22:04']);
  expect(moment(365 * 24)).toBe('14 Jul, 06:04');
});

test('the greeting follows the farm’s hour', () => {
  expect([0, 7, 13].map((hours) => greeting(MORNING + hours * 3_600_000, ZONE))).toEqual(['Good morning', 'Good afternoon', 'Good evening']);
});

describe('moments of local times', () => {
  test('are found on both sides of a change of the clocks', () => {
    for (const [month, day, hour] of [[3, 8, 0], [3, 8, 6], [11, 1, 0], [11, 1, 6], [7, 14, 12]] as const) {
      const found = localTime(momentOf(2015, month, day, hour, ZONE), ZONE);
      expect(found).toMatchObject({ month, day, hour, minute: 0 });
    }
  });

  test('run over the ends of months', () => {
    expect(localTime(momentOf(2015, 7, 32, 0, ZONE), ZONE)).toMatchObject({ month: 8, day: 1, hour: 0 });
  });
});
