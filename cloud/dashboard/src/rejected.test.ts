import { expect, test } from 'vitest';
import { channelSeries } from './fixtures';
import { reasonsText, rejectedOf, untimelyText } from './rejected';

const moisture = {
  ...channelSeries('soil_moisture_20cm', 0, [0.2, null, 0.21]),
  rejected: [1, 3, 0],
  reasons: [{ hampel: 1 }, { range: 2, hampel: 1 }, null],
};

test('a channel’s rejected readings are summed up by reason, the commonest first', () => {
  const [found] = rejectedOf([channelSeries('rain', 0, [1]), moisture]);
  expect(found).toEqual({
    channel: 'soil_moisture_20cm',
    total: 4,
    text: '20 cm: 4 rejected, 2 apart from their neighbours, 2 outside what is possible',
  });
});

test('where nothing was rejected nothing is said', () => {
  expect(rejectedOf([channelSeries('rain', 0, [1, 2])])).toEqual([]);
});

test('a reason that this page does not know is shown by its name', () => {
  const series = { ...moisture, rejected: [1, 0, 0], reasons: [{ eclipse: 1 }, null, null] };
  expect(rejectedOf([series])[0]?.text).toBe('20 cm: 1 rejected, 1 eclipse');
});

test('a cell of a table holds the reasons of a point', () => {
  expect([{ hampel: 1, range: 2 }, null, undefined].map(reasonsText)).toEqual(['hampel 1; range 2', '', '']);
});

test('what is in no window for its time is said by reason, the commonest first', () => {
  expect(untimelyText({ late: 3, future: 0, clock: 1200 })).toBe('1,200 of a wrong clock, 3 too late');
  expect(untimelyText({ late: 0, future: 0, clock: 0 })).toBe('');
});
