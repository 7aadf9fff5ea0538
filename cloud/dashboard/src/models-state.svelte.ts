/** The registry's versions and what the farm's gateways make of them, kept up to date while a page shows them. */

import { api, dataOf, type FarmModels, type FarmNodes, type Failure, failureOf, type ModelEvent, type ModelVersion, type Role } from './client';
import type { FarmState } from './farm-state.svelte';
import { session } from './session.svelte';
import { Throttle } from './throttle';

/** Gateways report their models' progress; nobody reads faster than this. */
const REFETCH_MS = 1000;
/** Asked for also when no change is told of. */
const POLL_MS = 30_000;
/** Enough to see how the last versions fared. */
const EVENTS_SHOWN = 20;

export class ModelsState {
  versions = $state.raw<readonly ModelVersion[] | null>(null);
  farm = $state.raw<FarmModels | null>(null);
  /** The models on the nodes themselves. */
  nodes = $state.raw<FarmNodes | null>(null);
  /** What happened last to models on the farm's gateways, the newest first. */
  events = $state.raw<readonly ModelEvent[]>([]);
  /** Why there is nothing to show, or why it is not the latest. */
  failure = $state.raw<Failure | null>(null);

  private readonly refetch = new Throttle(REFETCH_MS, () => this.load());

  constructor(private readonly of: FarmState) {}

  /** Begins to keep it up to date; what it returns ends that. */
  start(): () => void {
    this.refetch.request();
    const forget = this.of.onChange((change) => {
      if (change === null || change.kind === 'status' || change.kind === 'models') this.refetch.request();
    });
    const poll = setInterval(() => {
      if (!document.hidden) this.refetch.request();
    }, POLL_MS);
    return () => {
      forget();
      clearInterval(poll);
      this.refetch.stop();
    };
  }

  tryNow(): void {
    this.refetch.request();
  }

  /** What the cloud answered to a change of ours: newer than what was fetched before it. */
  answered(farm: FarmModels): void {
    this.farm = farm;
    this.refetch.request();
  }

  private async load(): Promise<void> {
    try {
      const params = { path: { farm: this.of.id } };
      const query = { limit: EVENTS_SHOWN };
      const [all, farm, events, nodes] = await Promise.all([
        dataOf(api.GET('/api/v1/models')),
        dataOf(api.GET('/api/v1/farms/{farm}/models', { params })),
        dataOf(api.GET('/api/v1/farms/{farm}/models/events', { params: { ...params, query } })),
        dataOf(api.GET('/api/v1/farms/{farm}/node-models', { params })),
      ]);
      this.versions = all.items;
      this.events = events.items;
      this.nodes = nodes;
      this.farm = farm;
      this.failure = null;
    } catch (error) {
      this.failure = failureOf(error);
      session.noticed(this.failure);
    }
  }
}

/** Who may push, activate and roll back. */
export function mayOperate(role: Role | undefined): boolean {
  return role === 'operator' || role === 'admin';
}
