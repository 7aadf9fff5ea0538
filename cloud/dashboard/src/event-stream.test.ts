import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Change } from './client';
import { EventStream, parseChange, retryDelay, type Source, type StreamState } from './event-stream';

test('patience doubles from a second to half a minute', () => {
  expect([0, 1, 2, 3, 4, 5, 50].map((failures) => retryDelay(failures, 1))).toEqual([1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
});

test('tries are spread over the second half of the wait', () => {
  expect([retryDelay(3, 0), retryDelay(3, 0.5)]).toEqual([4000, 6000]);
});

test('what is no change is left alone', () => {
  expect(parseChange('{"kind":"aggregates","stations":["c3"],"until":"2015-07-14T13:00:00Z"}')).toEqual({
    kind: 'aggregates',
    stations: ['c3'],
    until: '2015-07-14T13:00:00Z',
  });
  for (const text of ['', 'null', '[]', '{"kind":1,"until":"x"}', '{"kind":"alerts"}']) expect(parseChange(text)).toBeNull();
});

describe('the stream', () => {
  class FakeSource implements Source {
    onopen: Source['onopen'] = null;
    onerror: Source['onerror'] = null;
    closed = false;
    private readonly listeners = new Map<string, (event: MessageEvent<string>) => void>();

    addEventListener(type: string, listener: (event: MessageEvent<string>) => void): void {
      this.listeners.set(type, listener);
    }

    send(type: string, data: string): void {
      this.listeners.get(type)?.({ data } as MessageEvent<string>);
    }

    close(): void {
      this.closed = true;
    }
  }

  let sources: FakeSource[];
  let states: StreamState['kind'][];
  let changes: (Change['kind'] | 'missed')[];
  let stream: EventStream;
  const last = (): FakeSource => sources.at(-1) as FakeSource;
  const event = {} as Event;

  beforeEach(() => {
    vi.useFakeTimers();
    [sources, states, changes] = [[], [], []];
    const open = (): FakeSource => {
      sources.push(new FakeSource());
      return last();
    };
    const events = { onState: (s: StreamState) => states.push(s.kind), onChange: (c: Change) => changes.push(c.kind), onMissed: () => changes.push('missed') };
    stream = new EventStream('/events', events, open, () => 1);
    stream.start();
  });

  afterEach(() => {
    stream.stop();
    vi.useRealTimers();
  });

  test('tells what it is and what has changed', () => {
    last().onopen?.(event);
    last().send('change', '{"kind":"alerts","stations":[],"until":"2015-07-14T13:00:00Z"}');
    last().send('refresh', '{}');
    expect(states).toEqual(['connecting', 'live']);
    expect(changes).toEqual(['alerts', 'missed']);
  });

  test('opens again after an error, later each time, and starts over when it was live', () => {
    for (const wait of [1000, 2000, 4000]) {
      last().onerror?.(event);
      const before = sources.length;
      expect(sources[before - 1]?.closed).toBe(true);
      vi.advanceTimersByTime(wait - 1);
      expect(sources).toHaveLength(before);
      vi.advanceTimersByTime(1);
      expect(sources).toHaveLength(before + 1);
    }
    last().onopen?.(event);
    last().onerror?.(event);
    const before = sources.length;
    vi.advanceTimersByTime(1000);
    expect(sources).toHaveLength(before + 1);
  });

  test('does not open again after it was stopped', () => {
    last().onerror?.(event);
    stream.stop();
    vi.advanceTimersByTime(60_000);
    expect(sources).toHaveLength(1);
  });
});
