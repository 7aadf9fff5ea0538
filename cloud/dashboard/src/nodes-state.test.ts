import { describe, expect, test } from 'vitest';
import type { FarmNodes, NodeStatus } from './client';
import { nodeText, nodeTone, stageText, unusualText } from './nodes-state';

function node(changes: Partial<NodeStatus> = {}): NodeStatus {
  return {
    station: 'n1',
    in_stage: true,
    active: '1.0.0',
    previous: null,
    candidate: null,
    offset: 0,
    state: 'active',
    reason: '',
    alerts: 0,
    judged: 0,
    on_probation: false,
    heard: '2026-06-01T00:00:00Z',
    ...changes,
  };
}

function rollout(stations: string[], share: number): NonNullable<FarmNodes['rollout']> {
  return { name: 'soil-node', version: '1.1.0', sha256: 'ab', serial: 1, order: 'go', stations, share, most_failed: 0.1, at: '2026-06-01T00:00:00Z', by: 'f' };
}

describe('a stage', () => {
  test('names its stations and its share', () => {
    expect(stageText(rollout(['n1'], 0))).toBe('n1');
    expect(stageText(rollout([], 0.25))).toBe('25 % of the stations');
    expect(stageText(rollout(['n1', 'e1'], 0.5))).toBe('n1, e1 and 50 % of the stations');
    expect(stageText(rollout(['n1'], 1))).toBe('all stations');
    expect(stageText(rollout([], 0))).toBe('no station');
  });
});

describe('a node', () => {
  test('says what it runs and what became of the last version', () => {
    expect(nodeText(node())).toBe('runs 1.0.0');
    expect(nodeText(node({ on_probation: true }))).toBe('runs 1.0.0 on probation');
    expect(nodeText(node({ active: null, state: 'idle' }))).toBe('runs none');
    expect(nodeText(node({ state: 'receiving', candidate: '1.1.0', offset: 512 }))).toBe('has 512 bytes of 1.1.0, runs 1.0.0');
    expect(nodeText(node({ state: 'rolled_back', candidate: '1.1.0', reason: 'alerts' }))).toBe('went back from 1.1.0 (alerts), runs 1.0.0');
    expect(nodeText(node({ state: 'refused', candidate: '1.1.0', reason: 'golden', active: null }))).toBe('refused 1.1.0 (golden), runs none');
  });

  test('stands out when it went back by itself, not when it was told to', () => {
    expect(nodeTone(node({ state: 'rolled_back', reason: 'alerts' }))).toBe('warning');
    expect(nodeTone(node({ state: 'rolled_back', reason: 'told', active: null }))).toBe('none');
    expect(nodeTone(node())).toBe('ok');
  });

  test('is well when its probation is over', () => {
    expect(nodeTone(node({ on_probation: true }))).toBe('none');
    expect(nodeTone(node({ on_probation: false }))).toBe('ok');
  });

  test('says how much it calls unusual', () => {
    expect(unusualText(node())).toBe('–');
    expect(unusualText(node({ alerts: 3, judged: 500 }))).toBe('3 of 500');
  });
});
