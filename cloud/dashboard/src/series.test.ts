import { describe, expect, test } from 'vitest';
import { channelSeries, stationSeries } from './fixtures';
import { align, rejections, stepOf, totals, trend, withTail } from './series';

describe('aligning channels', () => {
  test('puts them over one list of times', () => {
    const { times, channels } = align([channelSeries('a_10cm', 0, [1, 2]), channelSeries('a_20cm', 900, [3, 4])], 900);
    expect(times).toEqual([0, 900, 1800]);
    expect(channels.map((c) => c.mean)).toEqual([
      [1, 2, null],
      [null, 3, 4],
    ]);
    expect(channels[0]?.max).toEqual([1.01, 2.01, null]);
  });

  test('breaks the line where windows are missing', () => {
    const gap = { ...channelSeries('a', 0, [1, 2, 3]), time: [0, 900, 7200] };
    const { times, channels } = align([gap], 900);
    expect(times).toEqual([0, 900, 1800, 7200]);
    expect(channels[0]?.mean).toEqual([1, 2, null, 3]);
  });

  test('breaks it too where all readings of a window were rejected', () => {
    expect(align([channelSeries('a', 0, [1, null, 3])], 900).channels[0]?.mean).toEqual([1, null, 3]);
  });

  test('of nothing is nothing', () => {
    expect(align([], 900)).toEqual({ times: [], channels: [] });
  });
});

test('the step of raw series is what their windows say', () => {
  expect(stepOf(stationSeries([channelSeries('a', 0, [1, 2], 600)], 0, 1200))).toBe(600);
  expect(stepOf(stationSeries([], 0, 1200))).toBe(900);
  expect(stepOf(stationSeries([channelSeries('a', 0, [1, 2], 600)], 0, 1200, 'day'))).toBe(86_400);
});

describe('a tail', () => {
  const known = stationSeries([channelSeries('a', 0, [1, 2, 3])], 0, 2700);

  test('replaces what late readings have amended, and adds what is new', () => {
    const tail = stationSeries([channelSeries('a', 1800, [3.5, 4])], 1800, 3600);
    const { series, to } = withTail(known, tail, 0);
    expect(series[0]?.time).toEqual([0, 900, 1800, 2700]);
    expect(series[0]?.mean).toEqual([1, 2, 3.5, 4]);
    expect(series[0]?.count).toEqual([3, 3, 3, 3]);
    expect(to).toBe(tail.to);
  });

  test('drops what has left the time shown', () => {
    const tail = stationSeries([channelSeries('a', 2700, [4])], 2700, 3600);
    expect(withTail(known, tail, 900_000).series[0]?.time).toEqual([900, 1800, 2700]);
  });

  test('may bring a channel that was not there, or leave one out', () => {
    const tail = stationSeries([channelSeries('b', 2700, [9])], 2700, 3600);
    expect(withTail(known, tail, 0).series.map((s) => [s.channel, s.mean])).toEqual([
      ['a', [1, 2, 3]],
      ['b', [9]],
    ]);
  });
});

test('a window’s least and greatest rejected readings are shown, one when they are the same', () => {
  const series = { ...channelSeries('a', 0, [1, 2, 3]), rejected_min: [null, 0.5, 7], rejected_max: [null, 0.9, 7] };
  expect(rejections([series])).toEqual([
    { time: 900, value: 0.5 },
    { time: 900, value: 0.9 },
    { time: 1800, value: 7 },
  ]);
});

test('rain is summed up by the hour: mean times count of each window', () => {
  const rain = channelSeries('rain', 0, [0.5, 0.5, null, 1, 2]);
  expect(totals(rain, 3600)).toEqual({ times: [0, 3600], totals: [6, 6] });
});

describe('a trend', () => {
  const hours = (of: number, value: (hour: number) => number): ReturnType<typeof channelSeries> =>
    channelSeries('battery', 0, Array.from({ length: of }, (_, hour) => value(hour)), 3600);

  test('is of days, whatever the hours do', () => {
    const found = trend(hours(7 * 24 + 1, (hour) => 3.9 - hour * 0.001 + 0.1 * Math.sin((hour / 24) * 2 * Math.PI)));
    expect(found?.days).toBe(7);
    expect(found?.change).toBeCloseTo(-0.144, 3);
  });

  test('is not made of less than two days', () => {
    expect(trend(hours(40, () => 3.9))).toBeNull();
    expect(trend(hours(0, () => 3.9))).toBeNull();
  });
});
