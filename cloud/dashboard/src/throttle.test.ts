import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Throttle } from './throttle';

let done: (() => void)[];
let throttle: Throttle;

beforeEach(() => {
  vi.useFakeTimers();
  done = [];
  throttle = new Throttle(2000, () => new Promise((resolve) => done.push(resolve)));
});

afterEach(() => {
  vi.useRealTimers();
});

const finish = async (): Promise<void> => {
  done.at(-1)?.();
  await vi.advanceTimersByTimeAsync(0);
};

test('the first request is answered at once, further ones together after the interval', async () => {
  throttle.request();
  await finish();
  for (let i = 0; i < 10; i += 1) throttle.request();
  expect(done).toHaveLength(1);
  await vi.advanceTimersByTimeAsync(2000);
  expect(done).toHaveLength(2);
  await finish();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(done).toHaveLength(2);
});

test('a request during a slow action is not lost, and does not run beside it', async () => {
  throttle.request();
  await vi.advanceTimersByTimeAsync(5000);
  throttle.request();
  await vi.advanceTimersByTimeAsync(5000);
  expect(done).toHaveLength(1);
  await finish();
  expect(done).toHaveLength(2);
});

test('nothing runs after it was stopped', async () => {
  throttle.request();
  await finish();
  throttle.request();
  throttle.stop();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(done).toHaveLength(1);
});
