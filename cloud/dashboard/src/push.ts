/** Sends a new version to the registry. */

import { Failure, type ModelVersion, type Problem, problemText } from './client';

/**
 * Sends the two files of a version. `onProgress` is told the share that has left the browser, 0 to 1; fetch cannot say that,
 * which is why this is an XMLHttpRequest.
 *
 * @throws {Failure} when the cloud refuses them or does not answer; its message is the refusal's own words.
 * @throws {DOMException} named AbortError when `signal` gave it up.
 */
export function pushVersion(
  { manifest, model }: { readonly manifest: File; readonly model: File },
  onProgress: (share: number) => void,
  signal: AbortSignal,
): Promise<ModelVersion> {
  const form = new FormData();
  // The manifest first: it says what the other one must be.
  form.append('manifest', manifest, 'manifest.toml');
  form.append('model', model, 'model.onnx');
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open('POST', '/api/v1/models');
    request.responseType = 'text';
    request.upload.onprogress = ({ loaded, total }) => onProgress(total === 0 ? 0 : loaded / total);
    request.upload.onload = () => onProgress(1);
    request.onload = () => {
      const answer = parse(request.responseText);
      if (request.status === 201) resolve(answer as ModelVersion);
      else reject(new Failure(request.status, detailOf(answer) ?? problemText(answer, request.status)));
    };
    request.onerror = () => reject(new Failure(null, 'The cloud does not answer.'));
    request.onabort = () => reject(new DOMException('given up', 'AbortError'));
    signal.addEventListener('abort', () => request.abort(), { once: true });
    request.send(form);
  });
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** The words of the refusal as they are: each of its mistakes begins with the name of a key. */
function detailOf(answer: unknown): string | null {
  const detail = typeof answer === 'object' && answer !== null ? (answer as Partial<Problem>).detail : undefined;
  return typeof detail === 'string' && detail !== '' ? detail : null;
}
