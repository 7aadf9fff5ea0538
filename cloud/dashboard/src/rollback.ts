/** Which version a rollback brings back. */

import type { FarmModels } from './client';
import { assignmentOf, modelStatus } from './model-state';

/** What a rollback does on one gateway. */
export interface Return {
  readonly gateway: string;
  readonly gatewayName: string;
  /** What is assigned now, or runs without having been assigned. */
  readonly from: string;
  /** What comes back; null when there is nothing to go back to. */
  readonly to: string | null;
}

/** The gateways that have a model, each with the version that a rollback brings back. */
export function returnsOf(model: string, { gateways, assignments }: FarmModels): Return[] {
  return gateways.flatMap((gateway) => {
    const assignment = assignmentOf(assignments, gateway.id, model);
    const from = assignment?.version ?? modelStatus(gateway.update, model)?.active.version;
    return from === undefined ? [] : { gateway: gateway.id, gatewayName: gateway.name, from, to: assignment?.before ?? null };
  });
}
