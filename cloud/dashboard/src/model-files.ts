/** The two files of a version, as a person gives them. */

/** The part of File that is needed. */
export interface GivenFile {
  readonly name: string;
  readonly size: number;
}

/** What the cloud takes at most. */
export const MAX_MODEL_BYTES = 16 * 1024 * 1024;
export const MAX_MANIFEST_BYTES = 4 * 1024 * 1024;

export interface ModelFiles<F extends GivenFile> {
  readonly model: F | null;
  readonly manifest: F | null;
}

export interface ChosenFiles<F extends GivenFile> {
  readonly files: ModelFiles<F>;
  /** What could not be used, a sentence each. */
  readonly mistakes: readonly string[];
}

/** Adds given files to those that are there; of a kind the last one holds, as when one is chosen again. */
export function addFiles<F extends GivenFile>(before: ModelFiles<F>, given: Iterable<F>): ChosenFiles<F> {
  let { model, manifest } = before;
  const mistakes: string[] = [];
  const seen = { model: false, manifest: false };
  for (const file of given) {
    const kind = kindOf(file.name);
    const mistake = kind === null ? `${file.name} is neither an ONNX file (.onnx) nor a manifest (.toml).` : mistakeOf(file, kind);
    if (kind === null || mistake !== null) {
      mistakes.push(mistake ?? '');
    } else if (seen[kind]) {
      mistakes.push(`${file.name} is a second ${kind === 'model' ? 'ONNX file' : 'manifest'}; one version has one.`);
    } else {
      seen[kind] = true;
      if (kind === 'model') model = file;
      else manifest = file;
    }
  }
  return { files: { model, manifest }, mistakes };
}

function kindOf(name: string): 'model' | 'manifest' | null {
  const lower = name.toLowerCase();
  if (lower.endsWith('.onnx')) return 'model';
  return lower.endsWith('.toml') ? 'manifest' : null;
}

function mistakeOf({ name, size }: GivenFile, kind: 'model' | 'manifest'): string | null {
  const most = kind === 'model' ? MAX_MODEL_BYTES : MAX_MANIFEST_BYTES;
  if (size === 0) return `${name} is empty.`;
  return size > most ? `${name} is larger than ${most / 1024 / 1024} MiB, the most that the registry takes.` : null;
}

/** The cloud's refusal of a version, a line for each mistake. A parser's picture of the place stays in one piece. */
export function refusalLines(detail: string): string[] {
  if (detail.trim().includes('\n')) return [detail.trimEnd()];
  return detail
    .split('; ')
    .map((line) => line.trim())
    .filter((line) => line !== '');
}
