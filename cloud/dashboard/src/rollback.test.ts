import { expect, test } from 'vitest';
import type { Assignment, ModelStatus } from './client';
import { assignment, farmModels, MODEL, status } from './fixtures';
import { returnsOf } from './rollback';

const outcome = (model: ModelStatus, assignments: Assignment[]): [string, string | null][] =>
  returnsOf(MODEL, farmModels(model, assignments)).map(({ from, to }) => [from, to]);

test('the version that was assigned before comes back', () => {
  expect(outcome(status(), [assignment('1.2.0', 2, { before: '1.1.0' })])).toEqual([['1.2.0', '1.1.0']]);
});

test('it is that of the assignment, whatever the gateway ran in between', () => {
  expect(outcome(status({ previous: '1.2.0' }), [assignment('1.1.0', 3, { before: '1.0.0' })])).toEqual([['1.1.0', '1.0.0']]);
});

test('a gateway that has had one version has nothing to go back to', () => {
  expect(outcome(status(), [])).toEqual([['1.0.0', null]]);
  expect(outcome(status(), [assignment('1.0.0', 1)])).toEqual([['1.0.0', null]]);
});

test('gateways without the model are not asked about', () => {
  expect(returnsOf('frost', farmModels(status(), [assignment('1.1.0', 1)]))).toEqual([]);
});
