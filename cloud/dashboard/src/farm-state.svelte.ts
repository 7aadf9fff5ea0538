/** A farm as it is now: its overview kept up to date by the event stream, and its clock. */

import { api, type Change, dataOf, type Failure, failureOf, type Overview, type Sparklines, type Station } from './client';
import { rootZoneChannel } from './channel';
import { EventStream, type StreamState } from './event-stream';
import { FarmClock } from './farm-time';
import { session } from './session.svelte';
import { fromFirstValue } from './sparkline';
import { isLate } from './station-state';
import { Throttle } from './throttle';

/** Changes come faster than anybody reads, above all on a simulated farm. */
const REFETCH_MS = 2000;
/** Sparklines are of hours; on a simulated farm hours pass in seconds. */
const SPARKLINES_MS = 10_000;
/** Asked for also when no change is told of: a stream can be dead without a sign. */
const POLL_MS = 30_000;
/** Asked for so often while the stream is not there, or the last answer was none. */
const POLL_BROKEN_MS = 5000;
/** A farm that does not answer for so long is said to be offline; a shorter break is nobody's concern. */
const OFFLINE_AFTER_MS = 4000;
/** How far back the sparklines go, hours. */
const SPARKLINE_HOURS = 168;

/** Told of every change; null means that anything may have changed. */
export type ChangeListener = (change: Change | null) => void;

export class FarmState {
  overview = $state.raw<Overview | null>(null);
  moisture = $state.raw<Sparklines | null>(null);
  rain = $state.raw<Sparklines | null>(null);
  /** Why there is no overview, or why it is not the latest. */
  failure = $state.raw<Failure | null>(null);
  stream = $state.raw<StreamState>({ kind: 'connecting' });
  /** Our clock, ms, once a second. */
  wall = $state(Date.now());
  /** When the farm last answered, and when it last answered or told of a change; our clock. */
  lastAnswer = $state<number | null>(null);
  lastWord = $state<number | null>(null);

  private clock = $state.raw<FarmClock | null>(null);
  /** The farm's time, ms; null until it is known. */
  now = $derived(this.clock === null ? null : this.clock.at(this.wall));
  /** Since when it fails to answer, our clock. */
  private failingSince = $state<number | null>(null);
  offline = $derived(this.failingSince !== null && this.wall - this.failingSince >= OFFLINE_AFTER_MS);
  /** Whether changes may have been missed. */
  private streamBroken = false;
  private lastLoad = 0;

  private readonly listeners = new Set<ChangeListener>();
  private readonly refetch = new Throttle(REFETCH_MS, () => this.load());
  private readonly refetchSparklines = new Throttle(SPARKLINES_MS, () => this.loadSparklines());
  private readonly events: EventStream;

  constructor(readonly id: string) {
    this.events = new EventStream(`/api/v1/farms/${encodeURIComponent(id)}/events`, {
      onState: (state) => this.streamIs(state),
      onChange: (change) => this.changed(change),
      onMissed: () => this.changed(null),
    });
  }

  /** Begins to keep the farm up to date; what it returns ends that. */
  start(): () => void {
    this.refetch.request();
    this.events.start();
    const second = setInterval(() => {
      this.wall = Date.now();
    }, 1000);
    const poll = setInterval(() => {
      const due = Date.now() - this.lastLoad >= POLL_MS || this.stream.kind !== 'live' || this.failingSince !== null;
      if (!document.hidden && due) this.refetch.request();
    }, POLL_BROKEN_MS);
    const wake = (): void => {
      if (!document.hidden) this.changed(null);
    };
    const online = (): void => this.tryNow();
    document.addEventListener('visibilitychange', wake);
    addEventListener('online', online);
    return () => {
      this.events.stop();
      this.refetch.stop();
      this.refetchSparklines.stop();
      clearInterval(second);
      clearInterval(poll);
      document.removeEventListener('visibilitychange', wake);
      removeEventListener('online', online);
    };
  }

  onChange(listener: ChangeListener): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Asks again at once, without waiting for the next try. */
  tryNow(): void {
    if (this.stream.kind !== 'live') this.events.start();
    this.changed(null);
  }

  /** Farm time as of this very moment, ms; for what must not depend on the second's tick. */
  exactNow(): number {
    return this.clock?.at(Date.now()) ?? Date.now();
  }

  isHeard(station: Station): boolean {
    return this.now !== null && this.overview !== null && station.last_heard !== null && !isLate(station, this.now, this.overview.speed);
  }

  private streamIs(state: StreamState): void {
    this.stream = state;
    if (state.kind === 'waiting') {
      this.streamBroken = true;
      this.refetch.request();
    } else if (state.kind === 'live' && this.streamBroken) {
      this.streamBroken = false;
      // Whatever happened in between was not told.
      this.changed(null);
    }
  }

  private changed(change: Change | null): void {
    if (change !== null) this.lastWord = Date.now();
    if (document.hidden) return;
    this.refetch.request();
    for (const listener of this.listeners) listener(change);
  }

  private async load(): Promise<void> {
    this.lastLoad = Date.now();
    try {
      const overview = await dataOf(api.GET('/api/v1/farms/{farm}', { params: { path: { farm: this.id } } }));
      const wall = Date.now();
      this.clock = new FarmClock(Date.parse(overview.now), wall, overview.speed);
      this.wall = wall;
      this.lastAnswer = wall;
      this.lastWord = wall;
      this.overview = overview;
      this.failure = null;
      this.failingSince = null;
      const known = this.moisture === null ? Number.NEGATIVE_INFINITY : Date.parse(this.moisture.to);
      if (overview.data_until !== null && Date.parse(overview.data_until) > known) this.refetchSparklines.request();
    } catch (error) {
      this.failure = failureOf(error);
      this.failingSince ??= Date.now();
      session.noticed(this.failure);
    }
  }

  private async loadSparklines(): Promise<void> {
    const channels = this.overview?.stations.flatMap((s) => s.latest.map((l) => l.channel)) ?? [];
    const moisture = rootZoneChannel(channels);
    const rain = channels.find((c) => c.startsWith('rain')) ?? null;
    try {
      const [moistureLines, rainLines] = await Promise.all([this.sparklines(moisture), this.sparklines(rain)]);
      this.moisture = moistureLines;
      this.rain = rainLines;
    } catch (error) {
      // The page stands without them, and the next change asks again; an ended session is another matter.
      session.noticed(failureOf(error));
    }
  }

  private async sparklines(channel: string | null): Promise<Sparklines | null> {
    if (channel === null) return null;
    const params = { path: { farm: this.id }, query: { channel, hours: SPARKLINE_HOURS } };
    return fromFirstValue(await dataOf(api.GET('/api/v1/farms/{farm}/sparklines', { params })));
  }
}
