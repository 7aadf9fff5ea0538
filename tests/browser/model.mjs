/** A version of the base model to push, and those that must be refused. */

import { readFile } from 'node:fs/promises';

const base = new URL('../../gateway/models/soil-anomaly-1.0.0/', import.meta.url);

export const NAME = 'soil-anomaly';
/** What the farm begins with. */
export const BASE = '1.0.0';

/** Versions that no run of these tests against the same farm has pushed before. */
const patch = Math.floor(Date.now() / 1000) % 1_000_000_000;
export const VERSION = `1.1.${patch}`;
export const WRONG_VERSION = `1.2.${patch}`;
export const HUNGRY_VERSION = `1.3.${patch}`;

const onnx = { name: 'model.onnx', mimeType: 'application/octet-stream', buffer: await readFile(new URL('model.onnx', base)) };
const manifest = await readFile(new URL('manifest.toml', base), 'utf8');

/** @param {string} text */
function files(text) {
  return [onnx, { name: 'manifest.toml', mimeType: 'application/toml', buffer: Buffer.from(text) }];
}

/** The base model's graph as a version of its own: it agrees with the base model in everything. */
export function goodVersion() {
  return files(
    manifest
      .replace(`version = "${BASE}"`, `version = "${VERSION}"\nparent = "${BASE}"`)
      .replace('[metrics]', '[metrics]\nrecall = 0.75\nfalse_alarms_per_station_day = 0.0121'),
  );
}

/** The base model's graph with the promise of another answer to its first golden sample. */
export function wrongVersion() {
  return files(manifest.replace(`version = "${BASE}"`, `version = "${WRONG_VERSION}"`).replace(/^output = \[/m, 'output = [9'));
}

/** The base model's graph with a promise of memory that nothing can keep. */
export function hungryVersion() {
  return files(manifest.replace(`version = "${BASE}"`, `version = "${HUNGRY_VERSION}"`).replace(/^max_memory_bytes = .*$/m, 'max_memory_bytes = 1'));
}

/** With three mistakes, in keys of which each is of the right type. */
export function refusedVersion() {
  return files(
    manifest
      .replace(`version = "${BASE}"`, 'version = "one"')
      .replace(/^threshold = .*$/m, 'threshold = 0.0')
      .replace(/^max_latency_ms = .*$/m, 'max_latency_ms = 0'),
  );
}
