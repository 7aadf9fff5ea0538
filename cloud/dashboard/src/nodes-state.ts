/** The models on the farm's nodes, in words. */

import type { FarmNodes, NodeStatus, NodesPhase } from './client';
import type { Tone } from './tone';

const PHASES: Record<NodesPhase, { text: string; tone: Tone }> = {
  fetching: { text: 'the file is not here yet', tone: 'warning' },
  going: { text: 'on its way', tone: 'none' },
  done: { text: 'done', tone: 'ok' },
  paused: { text: 'paused', tone: 'none' },
  stopped: { text: 'stopped', tone: 'warning' },
  aborted: { text: 'taken back', tone: 'none' },
};

export function phaseText(phase: NodesPhase): string {
  return PHASES[phase].text;
}

export function phaseTone(phase: NodesPhase): Tone {
  return PHASES[phase].tone;
}

/** Who is in the stage: "n1, n2 and 25 % of the others", "all stations". */
export function stageText(rollout: NonNullable<FarmNodes['rollout']>): string {
  const share = Math.round(rollout.share * 100);
  if (rollout.share >= 1) return 'all stations';
  const named = rollout.stations.join(', ');
  if (rollout.share === 0) return named === '' ? 'no station' : named;
  return named === '' ? `${share} % of the stations` : `${named} and ${share} % of the stations`;
}

/** What a station makes of the model: "runs 1.1.0 on probation", "has 512 bytes of 1.1.0", "refused 1.1.0 (golden), runs 1.0.0". */
export function nodeText(node: NodeStatus): string {
  const runs = node.active === null ? 'runs none' : `runs ${node.active}${node.on_probation ? ' on probation' : ''}`;
  switch (node.state) {
    case 'idle':
    case 'active':
      return runs;
    case 'receiving':
      return `has ${node.offset} bytes of ${node.candidate ?? '?'}, ${runs}`;
    case 'rolled_back':
      return `went back from ${node.candidate ?? '?'} (${node.reason}), ${runs}`;
    case 'refused':
      return `refused ${node.candidate ?? '?'} (${node.reason}), ${runs}`;
  }
}

export function nodeTone(node: NodeStatus): Tone {
  if (node.state === 'refused' || (node.state === 'rolled_back' && node.reason !== 'told')) return 'warning';
  // What may still go back by itself is not well yet.
  return node.active === null || node.on_probation ? 'none' : 'ok';
}

/** How much of what it judged a station's model calls unusual: "3 of 500 samples". */
export function unusualText(node: NodeStatus): string {
  return node.judged === 0 ? '–' : `${node.alerts} of ${node.judged}`;
}
