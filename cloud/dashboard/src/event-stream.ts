/** The farm's changes as they happen: server-sent events, opened again with growing patience. */

import type { Change } from './client';

const FIRST_RETRY_MS = 1000;
const LAST_RETRY_MS = 30_000;

/**
 * How long to wait before a try: a second, doubled with each failure up to half a minute, and between half and all of
 * that, so that a cloud that comes back is not asked by every browser at once. `random` is from 0 to 1.
 */
export function retryDelay(failures: number, random: number): number {
  const most = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(failures, 10));
  return Math.round(most * (0.5 + 0.5 * random));
}

export type StreamState =
  | { readonly kind: 'connecting' }
  | { readonly kind: 'live' }
  /** Not connected; `retryAt` is when the next try is, ms of our clock. */
  | { readonly kind: 'waiting'; readonly retryAt: number };

/** The part of EventSource that is needed. */
export interface Source {
  onopen: ((event: Event) => void) | null;
  onerror: ((event: Event) => void) | null;
  addEventListener(type: string, listener: (event: MessageEvent<string>) => void): void;
  close(): void;
}

export interface StreamEvents {
  onState(state: StreamState): void;
  onChange(change: Change): void;
  /** Changes were missed: anything may be different. */
  onMissed(): void;
}

export class EventStream {
  private source: Source | null = null;
  private timer: ReturnType<typeof setTimeout> | null = null;
  private failures = 0;

  constructor(
    private readonly url: string,
    private readonly events: StreamEvents,
    private readonly open: (url: string) => Source = (address) => new EventSource(address),
    private readonly random: () => number = Math.random,
  ) {}

  start(): void {
    this.stop();
    this.events.onState({ kind: 'connecting' });
    const source = this.open(this.url);
    this.source = source;
    source.onopen = () => {
      this.failures = 0;
      this.events.onState({ kind: 'live' });
    };
    // EventSource tries again by itself after some errors and never after others; one way for all is simpler to trust.
    source.onerror = () => this.retryLater();
    source.addEventListener('change', ({ data }) => {
      const change = parseChange(data);
      if (change !== null) this.events.onChange(change);
    });
    source.addEventListener('refresh', () => this.events.onMissed());
  }

  stop(): void {
    this.source?.close();
    this.source = null;
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
  }

  private retryLater(): void {
    this.stop();
    const delay = retryDelay(this.failures, this.random());
    this.failures += 1;
    this.events.onState({ kind: 'waiting', retryAt: Date.now() + delay });
    this.timer = setTimeout(() => this.start(), delay);
  }
}

/** A change, or nothing when the text is none: a newer server may say what this page does not know. */
export function parseChange(text: string): Change | null {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== 'object' || value === null) return null;
    const { kind, stations, until } = value as Record<string, unknown>;
    if (typeof kind !== 'string' || typeof until !== 'string') return null;
    return { kind: kind as Change['kind'], stations: Array.isArray(stations) ? stations.map(String) : [], until };
  } catch {
    return null;
  }
}
