import { expect, test } from 'vitest';
import { ago, modelVersion, NOW } from './fixtures';
import { byVersion, metricRows, modelsOf, parseLabel, pushedText } from './versions';

test('versions are compared as numbers', () => {
  expect(['1.10.0', '1.9.3', '2.0.0', '1.9.12'].toSorted(byVersion)).toEqual(['1.9.3', '1.9.12', '1.10.0', '2.0.0']);
  expect(byVersion('1.0.0', '1.0.0')).toBe(0);
});

test('the model and the version that were pushed last come first', () => {
  const models = modelsOf([
    modelVersion('1.0.0', { pushed_at: ago(90) }),
    modelVersion('0.1.0', { name: 'frost', pushed_at: ago(5) }),
    modelVersion('1.1.0', { pushed_at: ago(10) }),
    modelVersion('1.0.1', { pushed_at: ago(90) }),
  ]);
  expect(models.map(({ name, versions }) => [name, versions.map((v) => v.version)])).toEqual([
    ['frost', ['0.1.0']],
    ['soil-anomaly', ['1.1.0', '1.0.1', '1.0.0']],
  ]);
});

test('an alert’s model is name and version', () => {
  expect(parseLabel('soil-anomaly 1.0.0')).toEqual({ name: 'soil-anomaly', version: '1.0.0' });
  expect(parseLabel('a rule')).toBeNull();
  expect(parseLabel('../admin 1.0.0')).toBeNull();
});

test('each metric stands beside the parent’s, with the difference in the same precision', () => {
  const rows = metricRows(
    { metrics: { detected_drift: 0.744, false_alarms: 0.0121, samples: 184_320, detected_spike: 1, only_now: 12.345 } },
    { metrics: { detected_drift: 0.688, false_alarms: 0.0142, samples: 92_160, detected_spike: 1.0001, only_before: 3 } },
  );
  expect(rows).toEqual([
    { name: 'detected drift', value: '0.744', parent: '0.688', difference: '+0.056' },
    { name: 'detected spike', value: '1.000', parent: '1.000', difference: 'same' },
    { name: 'false alarms', value: '0.0121', parent: '0.0142', difference: '−0.0021' },
    { name: 'only before', value: '–', parent: '3', difference: '–' },
    { name: 'only now', value: '12.35', parent: '–', difference: '–' },
    { name: 'samples', value: '184,320', parent: '92,160', difference: '+92,160' },
  ]);
});

test('without a parent there is nothing to compare', () => {
  expect(metricRows({ metrics: { recall: 0.9 } }, undefined)).toEqual([{ name: 'recall', value: '0.900', parent: '–', difference: '–' }]);
});

test('a push is so long ago, and from a day on it has a date', () => {
  expect(pushedText({ pushed_at: ago(0) }, NOW, 'UTC')).toBe('just now');
  expect(pushedText({ pushed_at: ago(90) }, NOW, 'UTC')).toBe('1 h 30 min ago');
  expect(pushedText({ pushed_at: '2015-06-04T13:04:00Z' }, NOW, 'UTC')).toBe('4 Jun, 13:04');
});
